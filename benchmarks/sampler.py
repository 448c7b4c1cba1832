"""What the sampler of a node costs: its share of a core and its size while it watches 1, 8 and 64 worker processes.

Run: ``python benchmarks/sampler.py [SECONDS]``, 10 by default for each number of processes. The processes are real
ones that sleep, and once ones whose size changes between any two samples. A quiet machine has them all discovered, so
one more run has a neighbour that starts processes all the time, which makes the sampler look for children at its full
pace.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runmem.formats.mprof import read_trace
from runmem.node.launch import ensure_sampler, sampler_pid
from runmem.node.members import join
from runmem.units import MIB, format_bytes

INTERVAL_S = 0.1
MOST_CPU_PERCENT = 0.5
MOST_RSS_BYTES = 15 * MIB
CASES = ((1, "sleep", False), (8, "sleep", False), (64, "sleep", False), (64, "touch", False), (64, "sleep", True))
WORK = {
    "sleep": "import sys; sys.stdin.read()",
    "touch": """
import mmap, select
block, page = mmap.mmap(-1, 64 * mmap.PAGESIZE), 0
while not select.select([0], [], [], 0.05)[0]:
    if page == 64:
        block.madvise(mmap.MADV_DONTNEED)
        page = 0
    block[page * mmap.PAGESIZE] = 1
    page += 1
""",
}


@contextmanager
def processes(command: list[str], count: int) -> Iterator[list[int]]:
    """Start `count` processes that wait for the end of their input, and yield their numbers."""
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
            process.communicate()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that `pid` has used: in nanoseconds, where ``stat`` counts hundredths of a second."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def size_bytes(pid: int, field: str) -> int:
    """Return `field` (Rss or Pss) of the process."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match.group(1)) * 1024


def measure(count: int, work: str, busy: bool, seconds: float) -> tuple[float, int, int, int]:
    """Return CPU percent, resident and proportional size in bytes, and the samples taken."""
    worker_command = [sys.executable, "-S", "-E", "-c", WORK[work]]
    neighbour = ["sh", "-c", "while :; do /bin/true; done"]
    with (
        tempfile.TemporaryDirectory() as folder,
        processes(worker_command, count) as workers,
        processes(neighbour, int(busy)),
    ):
        spool = Path(folder)
        for pid in workers:
            join(spool, pid, "node.dat", f"worker-{pid}", "benchmark")
        ensure_sampler(spool, INTERVAL_S)
        pid = sampler_pid(spool)
        assert pid is not None
        time.sleep(2)  # its start is not what is measured
        before, began = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        percent = 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)
        sizes = size_bytes(pid, "Rss"), size_bytes(pid, "Pss")
        samples = len(read_trace(spool / "node.dat").times_s)
        (spool / "stop").touch()
        while sampler_pid(spool) is not None:
            time.sleep(0.05)
    return percent, *sizes, samples


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    print(f"sampler at {1 / INTERVAL_S:.0f} Hz, {seconds:.0f} s each")
    heads = f"{'processes':>9}  {'which':>5}  {'neighbour':>9}  {'CPU, % of a core':>16}"
    print(f"{heads}  {'resident':>9}  {'PSS':>9}  {'samples':>7}")
    for count, work, busy in CASES:
        percent, rss, pss, samples = measure(count, work, busy, seconds)
        which = f"{count:9}  {work:>5}  {'starts' if busy else 'quiet':>9}"
        print(f"{which}  {percent:16.2f}  {format_bytes(rss):>9}  {format_bytes(pss):>9}  {samples:7}", flush=True)
    print(f"targets: at most {MOST_CPU_PERCENT} % of a core with 64 processes, at most {format_bytes(MOST_RSS_BYTES)}")


if __name__ == "__main__":
    main()
