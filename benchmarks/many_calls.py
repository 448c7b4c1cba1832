"""Memory of the master and time a call of programs that make many calls and drop their futures.

python benchmarks/many_calls.py [--measure] [CALLS ...]

Each number of calls (10,000, 100,000 and 1,000,000 by default) is a program of its own on 2 workers. Its memory is
read before the first call, and after the last one has ended and free memory was returned to the system; the rest of
the growth is what the run keeps of its calls. Times include waiting for the last call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = """
import ctypes, gc, json, sys, time
import psutil
from runmem import barrier, task

@task()
def nothing(number):
    return None

def resident():
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # another C library than glibc
        pass
    return psutil.Process().memory_info().rss

count = int(sys.argv[1])
for number in range(1000):
    nothing(number)
barrier()
before, start, top = resident(), time.perf_counter(), 0
for number in range(count):
    nothing(number)
    if number % 10_000 == 0:
        top = max(top, psutil.Process().memory_info().rss)
barrier()
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "before": before, "after": resident(), "top": top}))
"""


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> None:
    measures = "--measure" in sys.argv
    counts = [int(word) for word in sys.argv[1:] if word.isdigit()] or [10_000, 100_000, 1_000_000]
    print(
        "    calls   us a call    master, MiB: before  after   grown, bytes a call   top   run directory, bytes a call"
    )
    for count in counts:
        with TemporaryDirectory() as folder:
            program = Path(folder, "program.py")
            program.write_text(PROGRAM)
            command = [sys.executable, "-m", "runmem", "--workers=2", "--no_summary", f"--run_folder={folder}/runs"]
            command += ["--python_memory_profile"] * measures + [str(program), str(count)]
            done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            disk = folder_bytes(Path(folder, "runs"))
        mib = {name: found[name] / 2**20 for name in ("before", "after", "top")}
        grown = (found["after"] - found["before"]) / count
        print(
            f"{count:9,}   {found['seconds'] / count * 1e6:9.1f}                {mib['before']:7.1f}{mib['after']:7.1f}"
            f"   {grown:19.1f}{mib['top']:7.1f}   {disk / count:12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
