"""Accuracy and cost of the peak of a window, beside psutil and memory_profiler in the same run.

python benchmarks/peak.py
"""

from __future__ import annotations

import mmap
import statistics
import sys
import time
from collections.abc import Callable

import psutil
from memory_profiler import memory_usage

from runmem.memory.peak import PeakReading, process_meter
from runmem.units import MIB

SIZES_MIB = (1, 10, 100, 500, 2048)
SPIKES = 30
SPIKE_MIB = 500
SPIKE_S = 0.005


def touch(size_bytes: int, hold_s: float = 0.0) -> None:
    """Take and touch `size_bytes`, hold them for `hold_s` seconds, give them back."""
    with mmap.mmap(-1, size_bytes) as block:
        for at in range(0, size_bytes, mmap.PAGESIZE):
            block[at] = 1
        time.sleep(hold_s)


def measured(function: Callable[..., object], *args: object) -> PeakReading:
    meter = process_meter()
    window = meter.start()
    function(*args)
    return meter.stop(window)


def increment_mib(reading: PeakReading) -> float:
    if reading.peak_bytes is None or reading.base_bytes is None:
        sys.exit(f"nothing could be measured: {reading.reason}")
    return (reading.peak_bytes - reading.base_bytes) / MIB


def accuracy() -> None:
    print(f"{'touched':>12} {'measured':>14} {'error':>14}   method")
    for size in SIZES_MIB:
        reading = measured(touch, size * MIB)
        value = increment_mib(reading)
        print(f"{size:>8} MiB {value:>10.3f} MiB {value - size:>+10.3f} MiB   {reading.method}")


def spikes() -> None:
    ours = sum(abs(increment_mib(measured(touch, SPIKE_MIB * MIB, SPIKE_S)) - SPIKE_MIB) <= 0.5 for _ in range(SPIKES))
    theirs = 0
    for _ in range(SPIKES):
        base = psutil.Process().memory_info().rss / MIB
        peak = memory_usage((touch, (SPIKE_MIB * MIB, SPIKE_S)), interval=0.1, max_usage=True)
        theirs += abs(peak - base - SPIKE_MIB) <= 5
    print(f"spike of {SPIKE_MIB} MiB held {SPIKE_S * 1e3:.0f} ms: seen {ours}/{SPIKES} within 0.5 MiB;", end=" ")
    print(f"memory_usage at 10 Hz saw {theirs}/{SPIKES} within 5 MiB")


def microseconds(function: Callable[[], object], calls: int) -> float:
    """Return the least of seven averages, in microseconds a call."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - start) / calls)
    return min(times) * 1e6


def cost() -> None:
    meter = process_meter()
    kept = psutil.Process()

    def pair() -> None:
        meter.stop(meter.start())

    def psutil_pair() -> None:
        kept.memory_info()
        kept.memory_info()

    ours = microseconds(pair, 3000)
    psutils = microseconds(psutil_pair, 3000)
    usage = statistics.median(microseconds(lambda: memory_usage((int, ()), max_usage=True), 1) for _ in range(3))
    print(f"start + stop:                      {ours:>12.1f} us")
    print(f"two memory_info() of a kept psutil {psutils:>12.1f} us   {psutils / ours:>10.1f} times ours")
    print(f"memory_profiler.memory_usage       {usage:>12.1f} us   {usage / ours:>10.1f} times ours")


if __name__ == "__main__":
    accuracy()
    spikes()
    cost()
