"""Time from submitting a job to its first task: `runmem submit` beside a hand-written sbatch script with Dask.

python benchmarks/submit.py [RUNS]

Needs a Slurm whose nodes share the current folder, such as the one of `tests/slurm/slurm.sh up DIR`. Both run two nodes
with two workers each and are submitted in turn; measured is from before the command that submits to the first line of
the first task. The hand-written job has no TLS and measures no memory.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

RUNMEM_APP = """
import time
from runmem import task, wait_on

@task(returns=1)
def begun():
    return time.time()

if __name__ == "__main__":
    print(wait_on(begun()))
"""

DASK_APP = """
import time
from distributed import Client

def begun():
    return time.time()

if __name__ == "__main__":
    with Client(scheduler_file="scheduler.json") as client:
        print(client.submit(begun).result())
"""

BY_HAND = f"""#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2 --output=by_hand-%j.out --error=by_hand-%j.err
rm -f scheduler.json
{sys.executable} -m distributed.cli.dask_scheduler --scheduler-file scheduler.json --port 0 --dashboard-address :0 &
srun --nodes=2 --ntasks=2 --cpus-per-task=2 {sys.executable} -m distributed.cli.dask_worker \\
    --scheduler-file scheduler.json --nworkers 2 --nthreads 1 --dashboard-address :0 &
while [ ! -s scheduler.json ]; do sleep 0.05; done
{sys.executable} dask_app.py
kill %1 %2
wait
"""

RUNMEM = ["runmem", "submit", "--num_nodes=2", "--workers_per_node=2"]
KINDS = {
    "by hand": (["sbatch", "--parsable", "by_hand.sh"], "by_hand-{}.out"),
    "runmem submit": ([sys.executable, "-m", *RUNMEM, "app.py"], "runmem-{}.out"),
    "runmem submit --python_memory_profile": (
        [sys.executable, "-m", *RUNMEM, "--python_memory_profile", "--no_summary", "app.py"],
        "runmem-{}.out",
    ),
}


def seconds_to_first_task(command: list[str], output: str, folder: Path) -> float:
    """Submit a job, wait until nothing of it is left, and return how long its first task took to begin."""
    start = time.time()
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    job = next(word for word in f"{done.stdout} {done.stderr}".split() if word.isdecimal())
    while subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True).stdout.strip():
        time.sleep(0.2)
    lines = (folder / output.format(job)).read_text().split()
    if not lines:
        sys.exit(f"job {job} printed nothing: " + (folder / output.format(job)).with_suffix(".err").read_text())
    return float(lines[0]) - start


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with TemporaryDirectory(dir=os.getcwd()) as name:
        folder = Path(name)
        for file, text in (("app.py", RUNMEM_APP), ("dask_app.py", DASK_APP), ("by_hand.sh", BY_HAND)):
            (folder / file).write_text(text)
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(runs):
            for kind, (command, output) in KINDS.items():
                times[kind].append(seconds_to_first_task(command, output, folder))
    base = statistics.median(times["by hand"])
    for kind, values in times.items():
        middle = statistics.median(values)
        print(f"{kind:38} {middle:6.2f} s  ({min(values):.2f} to {max(values):.2f}), {middle / base:.2f} x by hand")


if __name__ == "__main__":
    main()
