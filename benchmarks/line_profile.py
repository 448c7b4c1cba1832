"""Cost of `@profile` beside memory_profiler in the same run.

python benchmarks/line_profile.py
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import memory_profiler

from runmem.memory.profile import profile

LOOP_LINES = 100_000


def short(value: int) -> int:
    return value + 1


def loop(turns: int) -> int:
    total = 0
    for i in range(turns):
        total += i
    return total


def seconds(function: Callable[[], object], calls: int = 1, repeats: int = 3) -> float:
    """Return the least of `repeats` averages over `calls`, in seconds a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def calls() -> None:
    sink = io.StringIO()
    line = profile(full_report=False, stream=sink)(short)
    ours = seconds(lambda: line(1), 2000)
    theirs = seconds(lambda: memory_profiler.memory_usage((short, (1,)), max_usage=True))
    print(f"@profile(full_report=False), a call:      {ours * 1e6:>12.1f} us")
    print(f"memory_usage(max_usage=True), a call:     {theirs * 1e6:>12.1f} us   {theirs / ours:>8.1f} times ours")
    table = profile(stream=io.StringIO())(short)
    ours = seconds(lambda: table(1), 1000)
    original = memory_profiler.profile(short, stream=io.StringIO())
    theirs = seconds(lambda: original(1), 200)
    print(f"@profile(), a short call:                 {ours * 1e6:>12.1f} us")
    print(f"memory_profiler.profile, a short call:    {theirs * 1e6:>12.1f} us   {theirs / ours:>8.1f} times ours")


def lines() -> None:
    turns = LOOP_LINES // 2
    plain = seconds(lambda: loop(turns))
    table = profile(stream=io.StringIO())(loop)
    ours = seconds(lambda: table(turns))
    peaks = profile(stream=io.StringIO(), peak=True)(loop)
    with_peaks = seconds(lambda: peaks(turns))
    original = memory_profiler.profile(loop, stream=io.StringIO())
    theirs = seconds(lambda: original(turns), repeats=1)
    print(f"a loop of {LOOP_LINES} lines, not profiled:     {plain:>12.4f} s")
    print(
        f"@profile():                               {ours:>12.4f} s    {ours / plain:>8.1f} times the plain loop,",
        end="",
    )
    print(f" {ours / LOOP_LINES * 1e6:.2f} us a line")
    times = f"{with_peaks:>12.4f} s    {with_peaks / plain:>8.1f} times the plain loop,"
    print(f"@profile(peak=True):                      {times} {with_peaks / LOOP_LINES * 1e6:.2f} us a line")
    print(
        f"memory_profiler.profile:                  {theirs:>12.4f} s    {theirs / plain:>8.1f} times the plain loop,",
        end="",
    )
    print(f" {theirs / ours:.1f} times ours")


if __name__ == "__main__":
    calls()
    lines()
