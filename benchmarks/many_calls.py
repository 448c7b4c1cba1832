"""What each call costs the master and the disks, of programs that make many calls and drop their futures.

python benchmarks/many_calls.py [--measure] [CALLS ...]

Each number of calls (10,000, 100,000 and 1,000,000 by default) is a program of its own on 2 workers. Its memory is
read before the first call, and after the last one has ended and free memory was returned to the system; the rest of
the growth is what the run keeps of its calls. Times include waiting for the last call; processor time is that of the
master, all threads. With `--measure` the disk is shown too: spool and run directory when the last call has ended,
which is about their largest size, and the run directory that remains.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAM = """
import ctypes, gc, json, os, sys, time
from pathlib import Path
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

def used(folder):
    paths = folder.rglob("*") if folder.is_dir() else ()
    return sum(path.stat().st_blocks * 512 for path in paths if path.is_file())

count, folder = int(sys.argv[1]), Path(sys.argv[2])
for number in range(1000):
    nothing(number)
barrier()
before, start, cpu, top = resident(), time.perf_counter(), time.process_time(), 0
for number in range(count):
    nothing(number)
    if number % 10_000 == 0:
        top = max(top, psutil.Process().memory_info().rss)
barrier()
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
time.sleep(1)  # the last lines are copied
found = {"seconds": seconds, "cpu": cpu, "before": before, "after": resident(), "top": top}
found |= {"spool": used(folder / f"runmem-{os.getuid()}"), "runs": used(folder / "runs")}
print(json.dumps(found))
"""


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> None:
    measures = "--measure" in sys.argv
    counts = [int(word) for word in sys.argv[1:] if word.isdigit()] or [10_000, 100_000, 1_000_000]
    print(
        "             us a call: real    CPU | master, MiB:              | bytes a call:           run directory\n"
        "    calls                             before  after    top     |  memory   spool   during   after the run"
    )
    for count in counts:
        with TemporaryDirectory() as folder:
            program = Path(folder, "program.py")
            program.write_text(PROGRAM)
            command = [sys.executable, "-m", "runmem", "--workers=2", "--no_summary", f"--run_folder={folder}/runs"]
            command += ["--python_memory_profile"] * measures + [str(program), str(count), folder]
            environment = {**os.environ, "TMPDIR": folder}
            done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            found = json.loads(done.stdout)
            disk = folder_bytes(Path(folder, "runs"))
        mib = {name: found[name] / 2**20 for name in ("before", "after", "top")}
        each = {name: found[name] / count for name in ("seconds", "cpu", "spool", "runs")}
        grown = (found["after"] - found["before"]) / count
        print(
            f"{count:9,}      {each['seconds'] * 1e6:12.1f} {each['cpu'] * 1e6:6.1f} |       {mib['before']:7.1f}"
            f"{mib['after']:7.1f}{mib['top']:7.1f}    | {grown:7.1f} {each['spool']:7.1f}  {each['runs']:7.1f}"
            f"   {disk / count:13.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
