"""Tasks that together need several times the memory of their node: bare Dask, runmem, and runmem --memory_aware.

python benchmarks/memory_aware.py [CALLS [SECONDS]] [KIND ...]

CALLS (40) tasks of 300, 400, 500 and 600 MiB in random order hold their memory for SECONDS (0.5), on 4 workers and a
node of 2 GiB: a memory cgroup of version 1 where one can be made (as root), else a limit of 512 MiB a worker.
KIND is ``dask`` (each worker with Dask's limit, which does not know the cgroup), ``share`` (each with an equal share as
limit), ``aware`` (`--memory_aware`), ``known`` (`--memory_from` the run before), ``tree``, or on request ``runmem``.
Prints for each how many calls ended, how many workers died, the time, and its ratio to the best possible time.

The best possible time is the highest of three bounds, from the durations and increments of the calls in the run itself:
by processors, by memory times duration, and by the fewest groups of calls that fit together, times their mean duration
(exact for calls of equal length), with the memory of the node less what its processes take without a call.

``tree`` sums 64 chunks of 50 MB in pairs on 2 workers, and prints the highest memory of the workers together.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WORKERS, LIMIT_BYTES, MIB = 4, 2 * 1024**3, 1024**2
SIZES_MIB = (300, 400, 500, 600)
HOLD_S = float(os.environ.get("HOLD_S", "0.5"))
CHUNKS, CHUNK_BYTES = 64, 50_000_000
CGROUPS = Path("/sys/fs/cgroup/memory")


def sizes_of(calls: int) -> list[int]:
    """Return the size of each call in MiB, as many of each."""
    sizes = [SIZES_MIB[number % 4] for number in range(calls)]
    random.Random(4).shuffle(sizes)
    return sizes


def hold(mib: int) -> int:
    import numpy as np

    data = np.empty(mib * MIB, dtype=np.uint8)
    data[::4096] = 1
    time.sleep(HOLD_S)
    return int(data[0])


def load(number: int) -> Any:
    import numpy as np

    time.sleep(0.02)
    return np.full(CHUNK_BYTES // 8, float(number))


def add(one: Any, other: Any) -> Any:
    return one + other


def first(chunk: Any) -> float:
    return float(chunk[0])


# --- the programs, each in a process of its own -----------------------------------------------------------------------


class Watch:
    """Reads 50 times a second what the workers of this process take together, and which there are."""

    def __init__(self) -> None:
        import psutil

        self._me = psutil.Process()
        self._end = threading.Event()
        self.pids: set[int] = set()
        self.most_bytes = 0
        self.least_bytes: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import psutil

        while not self._end.wait(0.02):
            total = 0
            for process in self._me.children(recursive=True):
                try:
                    if "spawn_main" in " ".join(process.cmdline()):
                        total += process.memory_info().rss
                        self.pids.add(process.pid)
                except psutil.Error:
                    continue
            self.most_bytes = max(self.most_bytes, total)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()


def by_dask(calls: int, shares: bool) -> dict[str, Any]:
    import distributed

    limit = LIMIT_BYTES // WORKERS if shares or not os.environ.get("IN_CGROUP") else "auto"
    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, memory_limit=limit, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        watch, start = Watch(), time.perf_counter()
        futures = [client.submit(hold, size, pure=False) for size in sizes_of(calls)]
        distributed.wait(futures)
        seconds = time.perf_counter() - start
        watch.stop()
        ended = sum(future.status == "finished" for future in futures)
    return {"ended": ended, "seconds": seconds, "dead": len(watch.pids) - WORKERS, "most": watch.most_bytes}


def by_runmem(calls: int, **settings: Any) -> dict[str, Any]:
    import runmem

    tasks = {size: runmem.task(returns=1)(named(size)) for size in SIZES_MIB}
    nothing = runmem.task(returns=1)(first)
    settings = {"workers": WORKERS, "python_memory_profile": True, "run_folder": "runs", **settings}
    if not os.environ.get("IN_CGROUP"):
        settings["worker_memory"] = LIMIT_BYTES // WORKERS
    with runmem.session(app="bench", **settings) as run:
        runmem.wait_on([nothing([1.0]) for _ in range(WORKERS)])
        watch, start = Watch(), time.perf_counter()
        futures = [tasks[size]() for size in sizes_of(calls)]
        ended = 0
        for future in futures:
            try:
                ended += runmem.wait_on(future)
            except runmem.RunmemError:
                continue
        seconds = time.perf_counter() - start
        watch.stop()
    from runmem.store.run import read_run

    records = read_run(run.directory.root).records
    done = [r for r in records if r.status == "finished" and r.name.startswith("hold_")]
    return {
        "ended": ended, "seconds": seconds, "dead": len(watch.pids & {r.pid for r in records if r.status == "killed"}),
        "most": watch.most_bytes, "run": str(run.directory.root),
        "calls": [(r.elapsed_s, r.increment_bytes) for r in done],
        "bases": sum({r.pid: r.base_bytes or 0 for r in done}.values()),
    }  # fmt: skip


def named(mib: int) -> Any:
    def function() -> int:
        return hold(mib)

    function.__name__ = function.__qualname__ = f"hold_{mib}"
    return function


def tree(make: Any, sum_of: Any) -> Any:
    level = [make(number) for number in range(CHUNKS)]
    while len(level) > 1:
        level = [sum_of(*level[at : at + 2]) for at in range(0, len(level), 2)]
    return level[0]


def tree_by_dask() -> dict[str, Any]:
    import dask
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=8 * 1024**3, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster),
    ):
        total = dask.delayed(first)(tree(dask.delayed(load), dask.delayed(add)))
        watch, start = Watch(), time.perf_counter()
        assert total.compute() == sum(range(CHUNKS))
        seconds = time.perf_counter() - start
        watch.stop()
    return {"seconds": seconds, "most": watch.most_bytes}


def tree_by_runmem(**settings: Any) -> dict[str, Any]:
    import runmem

    make, sum_of, read = (runmem.task(returns=1)(function) for function in (load, add, first))
    with runmem.session(app="tree", workers=2, run_folder="runs", **settings):
        runmem.wait_on(read([1.0]))
        watch, start = Watch(), time.perf_counter()
        assert runmem.wait_on(read(tree(make, sum_of))) == sum(range(CHUNKS))
        seconds = time.perf_counter() - start
        watch.stop()
    return {"seconds": seconds, "most": watch.most_bytes}


def child(kind: str, calls: int, *more: str) -> None:
    if kind in ("dask", "share"):
        result = by_dask(calls, kind == "share")
    elif kind == "tree dask":
        result = tree_by_dask()
    elif kind == "tree runmem":
        result = tree_by_runmem(python_memory_profile=True, worker_memory=8 * 1024**3)
    elif kind == "tree aware":
        result = tree_by_runmem(memory_aware=True, worker_memory=int(more[0]))
    else:
        settings = {"runmem": {}, "aware": {"memory_aware": True}, "known": {"memory_from": "".join(more)}}
        result = by_runmem(calls, **settings[kind])
    print("RESULT", json.dumps(result))


# --- the comparison ---------------------------------------------------------------------------------------------------


@contextmanager
def cgroup() -> Iterator[Path | None]:
    """Make a memory cgroup with the limit of the node; None where that is impossible."""
    group = CGROUPS / f"runmem-bench-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def run_child(kind: str, calls: int, group: Path | None, folder: str, *more: str) -> dict[str, Any] | None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("IN_CGROUP", None)
    command = [sys.executable, os.path.abspath(__file__), "--child", kind, str(calls), *more]
    if group is not None:
        environment["IN_CGROUP"] = "1"
        command = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        print(f"{kind}: no end within 300 s")
        return None
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        print(f"{kind}: ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return None
    result: dict[str, Any] = json.loads(found[0][7:])
    return result


def best_s(calls: list[tuple[float, int]], room_bytes: int) -> float:
    """Return the least time in which calls of these durations and sizes can end in so much memory."""
    by_processors = sum(seconds for seconds, _ in calls) / WORKERS
    by_memory = sum(seconds * size for seconds, size in calls) / room_bytes
    sizes = sorted({round(size / MIB, -1) for _, size in calls})
    counts = tuple(sum(round(size / MIB, -1) == each for _, size in calls) for each in sizes)
    groups = [
        group
        for group in product(*(range(min(count, WORKERS) + 1) for count in counts))
        if 0 < sum(group) <= WORKERS and sum(n * size for n, size in zip(group, sizes, strict=True)) * MIB <= room_bytes
    ]

    @cache
    def fewest(left: tuple[int, ...]) -> int:
        if not any(left):
            return 0
        fitting = [g for g in groups if all(n <= have for n, have in zip(g, left, strict=True))]
        largest = [
            g for g in fitting if not any(h != g and all(x >= y for x, y in zip(h, g, strict=True)) for h in fitting)
        ]
        return 1 + min(fewest(tuple(have - n for n, have in zip(g, left, strict=True))) for g in largest)

    sys.setrecursionlimit(10_000)
    return max(by_processors, by_memory, fewest(counts) * sum(seconds for seconds, _ in calls) / len(calls))


def compare(calls: int, kinds: list[str]) -> None:
    with cgroup() as group, TemporaryDirectory() as folder:
        where = (
            f"a cgroup of {LIMIT_BYTES // MIB} MiB"
            if group
            else f"{WORKERS} limits of {LIMIT_BYTES // WORKERS // MIB} MiB"
        )
        print(f"{calls} calls of {', '.join(map(str, SIZES_MIB))} MiB for {HOLD_S} s, {WORKERS} workers, {where}")
        print(f"{'':8}{'ended':>7}{'killed':>8}{'workers, most':>16}{'time':>9}{'best':>9}{'ratio':>7}")
        known = ""
        for kind in kinds:
            result = run_child(kind, calls, group, folder, *([known] if kind == "known" else []))
            if result is None:
                continue
            most = f"{result['most'] / MIB:12.0f} MiB"
            line = f"{kind:8}{result['ended']:7}{result['dead']:8}{most}{result['seconds']:7.1f} s"
            if result.get("calls") and result["ended"] == calls:
                others = 0 if group is None else 150 * MIB  # program, nannies and sampler
                best = best_s(result["calls"], LIMIT_BYTES - others - result["bases"])
                line += f"{best:7.1f} s{result['seconds'] / best:7.2f}"
            known = result.get("run", known)
            print(line, flush=True)


def compare_trees() -> None:
    print(f"\ntree of {CHUNKS} chunks of {CHUNK_BYTES // 10**6} MB, in pairs, on 2 workers")
    print(f"{'':28}{'workers, most':>16}{'time':>9}")
    with TemporaryDirectory() as folder:
        rows = [("tree dask", "Dask, delayed", []), ("tree runmem", "runmem", [])]
        rows += [
            ("tree aware", f"runmem, {size // MIB} MiB a worker", [str(size)]) for size in (4 * 1024**3, 300 * MIB)
        ]
        for kind, name, more in rows:
            if (result := run_child(kind, 0, None, folder, *more)) is not None:
                print(f"{name:28}{result['most'] / MIB:12.0f} MiB{result['seconds']:7.1f} s", flush=True)


def main() -> None:
    words = sys.argv[1:]
    calls = int(words.pop(0)) if words and words[0].isdigit() else 40
    if words and words[0].replace(".", "").isdigit():
        global HOLD_S
        os.environ["HOLD_S"], HOLD_S = words[0], float(words.pop(0))
    kinds = words or ["dask", "share", "aware", "known", "tree"]
    if plain := [kind for kind in kinds if kind != "tree"]:
        compare(calls, plain)
    if "tree" in kinds:
        compare_trees()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    else:
        main()
