"""What definitions and large values of a program cost on their way: one run, side by side.

python benchmarks/definitions.py [CALLS] [ROUNDS]

Prints, on 2 workers: 40 calls that read a global of 10 MB beside the same as an argument (time and the program's
memory); no-op calls with an object of a class of the program beside calls with a number; ten tasks that read one array
of 800 MB (what a worker needs beyond it); size and time of an outline of 20 classes. Kinds are interleaved, medians
count.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import runmem
from runmem import task, wait_on
from runmem.serialization.definitions import ProgramDefinitions
from runmem.serialization.outline import Outline
from runmem.serialization.snapshot import Snapshots
from runmem.store.run import read_run
from runmem.units import MIB

READS = 40
table = np.ones((READS, 10_000_000 // 8 // READS))
words = {f"word {number}": number for number in range(200_000)}


class Point:
    scale = 2

    def __init__(self, x: int) -> None:
        self.x = x

    def scaled(self) -> int:
        return self.x * Point.scale


@task(returns=1)
def row_of_global(i):
    return float(table[i].sum())


@task(returns=1)
def row_of_argument(given, i):
    return float(given[i].sum())


@task(returns=1)
def word_of_global(i):
    return words[f"word {i}"]


@task(returns=1)
def word_of_argument(given, i):
    return given[f"word {i}"]


@task(returns=1)
def number(value):
    return value


@task(returns=1)
def point(value):
    return value.scaled()


@task(returns=1)
def make(mib):
    return np.ones(mib * MIB // 8)


@task(returns=1)
def total(block):
    return float(block.sum())


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(times: list[float]) -> float:
    return statistics.median(times)


def reads(rounds: int) -> None:
    kinds: dict[str, Callable[[], Any]] = {
        "array, global": lambda: wait_on([row_of_global(i) for i in range(READS)]),
        "array, argument": lambda: wait_on([row_of_argument(table, i) for i in range(READS)]),
        "words, global": lambda: wait_on([word_of_global(i) for i in range(READS)]),
        "words, argument": lambda: wait_on([word_of_argument(words, i) for i in range(READS)]),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):
        for kind, work in kinds.items():
            times[kind].append(seconds(work))
    for name in ("array", "words"):
        ours, other = (median(times[f"{name}, {where}"][1:]) for where in ("global", "argument"))
        print(f"{READS} calls that read {name}: global {ours:.3f} s, argument {other:.3f} s, ratio {ours / other:.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"highest resident set size of the program so far: {peak:.0f} MiB")


def throughput(calls: int, rounds: int) -> None:
    kinds: dict[str, Callable[[], Any]] = {
        "a number": lambda: wait_on([number(i) for i in range(calls)]),
        "an object of the program's class": lambda: wait_on([point(Point(i)) for i in range(calls)]),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):
        for kind, work in kinds.items():
            times[kind].append(seconds(work))
    for kind, its in times.items():
        print(f"no-op calls with {kind}: {calls / median(its[1:]):,.0f}/s")


def outline() -> None:
    names: dict[str, Any] = {"__name__": "__main__", "task": task}
    text = "\n".join(
        f"class C{i}:\n    count = {i}\n    def __init__(self, x): self.x = x\n"
        f"    def get(self): return self.x + C{i}.count\n"
        for i in range(20)
    )
    exec(text + "\n@task(returns=1)\ndef use(): return [" + ", ".join(f"C{i}" for i in range(20)) + "]\n", names)
    definitions = ProgramDefinitions()
    packing = [seconds(lambda: Snapshots(definitions).of(names["use"], frozenset())) for _ in range(20)]
    snapshot = Snapshots(definitions).of(names["use"], frozenset())
    assert snapshot is not None
    making = [seconds(lambda: Outline(snapshot.outline)) for _ in range(20)]
    asking = [seconds(snapshot.is_current) for _ in range(200)]
    print(
        f"outline of 20 classes: {len(snapshot.outline) / 1024:.1f} KiB, packed in {1e3 * median(packing):.2f} ms, "
        f"made in {1e3 * median(making):.2f} ms, known to hold in {1e6 * median(asking):.1f} us"
    )


def shared(mib: int) -> None:
    with TemporaryDirectory() as folder:
        options: dict[str, Any] = {"run_folder": folder, "worker_profile_path": folder, "python_memory_profile": True}
        with runmem.session(workers=1, **options) as run:
            block = make(mib)
            wait_on([total(block) for _ in range(10)])
        peaks = [record.peak_bytes or 0 for record in read_run(run.directory.root).records if record.name == "total"]
    print(f"ten tasks read one array of {mib} MiB: highest peak {max(peaks) / MIB:.0f} MiB")


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    outline()
    with TemporaryDirectory() as folder, runmem.session(workers=2, run_folder=folder, worker_profile_path=folder):
        reads(rounds)
        throughput(calls, rounds)
    shared(800)


if __name__ == "__main__":
    main()
