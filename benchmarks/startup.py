"""Time from start to exit, and processor time, of `runmem` for an empty program and for one with a single task.

python benchmarks/startup.py [RUNS]

The figures in brackets are those of the real PyCOMPSs on a machine like ours.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ONE_TASK = """
from runmem import task, wait_on

@task(returns=1)
def increment(value):
    return value + 1

print(wait_on(increment(1)))
"""


def seconds(command: list[str], folder: str) -> tuple[float, float]:
    """Return wall time and processor time, with that of all processes that the command started and waited for."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after, end = os.times(), time.perf_counter()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return end - start, cpu


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with TemporaryDirectory() as folder:
        Path(folder, "empty.py").write_text("")
        Path(folder, "one.py").write_text(ONE_TASK)
        runmem = [sys.executable, "-m", "runmem"]
        kinds = {
            "python empty.py": [sys.executable, "empty.py"],
            "runmem empty.py": [*runmem, "empty.py"],
            "runmem --python_memory_profile empty.py": [*runmem, "--python_memory_profile", "empty.py"],
            "runmem one.py": [*runmem, "one.py"],
            "runmem --python_memory_profile one.py": [*runmem, "--python_memory_profile", "one.py"],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(runs):
            for name, command in kinds.items():
                times[name].append(seconds(command, folder))
    for name, values in times.items():
        known = "  [PyCOMPSs: 1.3-1.7 s]" if name.endswith("empty.py") and "runmem" in name else ""
        known = "  [PyCOMPSs: 6.4-6.7 s]" if name.endswith("one.py") else known
        wall, cpu = zip(*values, strict=True)
        print(
            f"{name:42} {statistics.median(wall):6.2f} s  ({min(wall):.2f} to {max(wall):.2f})"
            f"  processor {statistics.median(cpu):5.2f} s  ({min(cpu):.2f} to {max(cpu):.2f}){known}"
        )


if __name__ == "__main__":
    main()
