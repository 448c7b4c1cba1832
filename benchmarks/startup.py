"""Time from start to exit of `runmem` for an empty program and for one with a single task, beside plain Python.

python benchmarks/startup.py [RUNS]

The figures in brackets are those of the real PyCOMPSs on a machine like ours.
"""

from __future__ import annotations

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


def seconds(command: list[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


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
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(runs):
            for name, command in kinds.items():
                times[name].append(seconds(command, folder))
    for name, values in times.items():
        known = "  [PyCOMPSs: 1.3-1.7 s]" if name.endswith("empty.py") and "runmem" in name else ""
        known = "  [PyCOMPSs: 6.4-6.7 s]" if name.endswith("one.py") else known
        print(f"{name:42} {statistics.median(values):6.2f} s  ({min(values):.2f} to {max(values):.2f}){known}")


if __name__ == "__main__":
    main()
