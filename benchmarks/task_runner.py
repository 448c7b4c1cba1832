"""TaskRunner beside `multiprocessing.Pool`: many short targets, and the memory of the master.

Prints ratios of runs that were made in turn, below 1 where runmem is quicker: to a pool that maps the runner itself
over the targets, one a chunk, with the steps of the original TaskRunner, and to a pool that maps the bare function. A
run is a program of its own. "work" is from the first target's start to the last one's end; "all" includes importing
what that way needs, starting and ending processes, and the run directory.

The ratio of all to a pool that maps the bare function is to stay below 1.15.

    python benchmarks/task_runner.py [targets] [repeats] [targets of the memory test]
"""

from __future__ import annotations

import argparse
import ast
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runmem.memory.process import own_process
from runmem.task_runner import CmdLineTask, Config, Struct, TaskRunner
from runmem.task_runner.implicit_threading import disableImplicitThreading

TARGET_S = 0.01
_ALONE = "--alone"
RESULT_BYTES = 100 * 1024


class ShortRunner(TaskRunner):
    """Gives each target the keywords that the command has."""

    @staticmethod
    def getTargetList(parsedCmd: Any) -> list[Any]:  # type: ignore[override]
        return TaskRunner.getTargetList(parsedCmd, busy=parsedCmd.busy)


class Short(CmdLineTask):
    """Sleeps for 10 ms, or computes for as long."""

    RunnerClass = ShortRunner
    _DefaultName = "short"

    def runDataRef(self, ref: int, busy: bool = False) -> tuple[float, float]:
        return work((ref, busy))


class Large(CmdLineTask):
    """Returns 100 KiB."""

    _DefaultName = "large"

    def runDataRef(self, ref: int) -> bytes:
        return os.urandom(RESULT_BYTES)


def work(given: tuple[int, bool]) -> tuple[float, float]:
    """Spend 10 ms; return start and end in seconds since the epoch."""
    start = time.time()
    if given[1]:
        end = time.process_time() + TARGET_S
        while time.process_time() < end:
            pass
    else:
        time.sleep(TARGET_S)
    return start, time.time()


def command(processes: int, targets: int, isolate: bool, busy: bool = False) -> argparse.Namespace:
    return argparse.Namespace(
        config=Config(), log=logging.getLogger("bench"), doraise=True, processes=processes, isolate=isolate, busy=busy,
        id=Struct(refList=list(range(targets))),
    )  # fmt: skip


def by_runner(targets: int, isolate: bool, busy: bool) -> tuple[float, float]:
    began = time.perf_counter()
    parsed = command(2, targets, isolate, busy)
    runner = Short.RunnerClass(Short, parsed, doReturnResults=True)
    found = [result.result for result in runner.run(parsed)]
    return span(found), time.perf_counter() - began


def by_pool_of_runners(targets: int, isolate: bool, busy: bool) -> tuple[float, float]:
    began = time.perf_counter()
    parsed = command(2, targets, isolate, busy)
    runner = Short.RunnerClass(Short, parsed, doReturnResults=True)
    disableImplicitThreading()
    runner.prepareForMultiProcessing()
    pool = multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1 if isolate else None)
    assert runner.precall(parsed)
    given = runner.getTargetList(parsed)
    found = [result.result for result in pool.map_async(runner, given, chunksize=1).get(3600)]
    pool.close()
    pool.join()
    return span(found), time.perf_counter() - began


def by_pool(targets: int, isolate: bool, busy: bool) -> tuple[float, float]:
    began = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1 if isolate else None) as pool:
        found = pool.map(work, [(n, busy) for n in range(targets)], chunksize=1)
    return span(found), time.perf_counter() - began


def span(found: list[tuple[float, float]]) -> float:
    return max(end for _, end in found) - min(start for start, _ in found)


def alone(function: Callable[..., tuple[float, float]], *arguments: object) -> tuple[float, float]:
    """Call a function of this file in a program of its own, as users do: nothing of one run is in the next."""
    command = [sys.executable, str(Path(__file__).resolve()), _ALONE, function.__name__, *map(repr, arguments)]
    first, second = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    return float(first), float(second)


def ratio(seconds: list[list[float]], other: int) -> str:
    """Return the ratio of the runner's times to those of another way: median, least and greatest."""
    ratios = sorted(ours / its for ours, its in zip(seconds[0], seconds[other], strict=True))
    return f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"


def growth(targets: int) -> tuple[float, float]:
    """Return how much the master grew by a run whose targets return 100 KiB each, and the size of all results."""
    in_it = own_process()
    parsed = command(2, 2, False)
    first = Large.RunnerClass(Large, parsed)
    first.headStart = False
    first.run(parsed)  # what Dask and the connection take
    before = in_it.resident_bytes()
    parsed = command(2, targets, False)
    assert len(Large.RunnerClass(Large, parsed).run(parsed)) == targets
    return in_it.resident_bytes() - before, targets * RESULT_BYTES


def main() -> None:
    numbers = [int(text) for text in sys.argv[1:]] + [1000, 3, 10_000][len(sys.argv) - 1 :]
    targets, repeats, memory_targets = numbers
    print(
        f"{targets} targets of {TARGET_S * 1000:.0f} ms, 2 processes, {repeats} times in turn, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for isolate in (True, False):
        for busy in (False, True):
            ways = (by_runner, by_pool_of_runners, by_pool)
            rounds = [[alone(way, targets, isolate, busy) for way in ways] for _ in range(repeats)]
            for name, which in (("work", 0), ("all", 1)):
                seconds = [[found[which] for found in by_way] for by_way in zip(*rounds, strict=True)]
                ours, original, bare = (statistics.median(each) for each in seconds)
                print(
                    f"{'isolated' if isolate else 'shared':9}{'computing' if busy else 'sleeping':10}{name:5}"
                    f"runner {ours:6.2f} s  pool of runners {original:6.2f} s, {ratio(seconds, 1)}  "
                    f"pool {bare:6.2f} s, {ratio(seconds, 2)}",
                    flush=True,
                )
    grown, results = alone(growth, memory_targets)
    print(
        f"master grew by {grown / 2**20:.1f} MiB over {memory_targets} targets "
        f"with {results / 2**20:.0f} MiB of results"
    )


if __name__ == "__main__" and sys.argv[1:2] == [_ALONE]:
    print(*globals()[sys.argv[2]](*map(ast.literal_eval, sys.argv[3:])))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(Path(folder))
        main()
