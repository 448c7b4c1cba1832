"""What `timeMethod` costs a call, beside LSST's own where it is installed; processor time, side by side.

python benchmarks/time_method.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from runmem.pipe_base import TaskMetadata, timeMethod

CALLS = 2000


def cost_us(timer: Callable[[Any], Any], metadata: type) -> float:
    class Work:
        def __init__(self) -> None:
            self.metadata = metadata()

        @timer
        def run(self) -> None: ...

    work = Work()
    start_s = time.process_time()
    for _ in range(CALLS):
        work.run()
    return (time.process_time() - start_s) / CALLS * 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    ways: dict[str, tuple[Callable[[Any], Any], type]] = {
        "timeMethod": (timeMethod, TaskMetadata),
        "timeMethod(contaminated=True)": (partial(timeMethod, contaminated=True)(), TaskMetadata),
    }
    with suppress(ImportError):
        from lsst.pipe.base import TaskMetadata as RealMetadata
        from lsst.utils.timer import timeMethod as real_timer

        ways["lsst.utils.timer.timeMethod"] = real_timer, RealMetadata
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (timer, metadata) in ways.items():
            found[way].append(cost_us(timer, metadata))
    ours = statistics.median(found["timeMethod"])
    for way, costs in found.items():
        median = statistics.median(costs)
        print(
            f"{way:30} {median:6.1f} us a call (from {min(costs):.1f} to {max(costs):.1f}), ratio {median / ours:.2f}"
        )


if __name__ == "__main__":
    main()
