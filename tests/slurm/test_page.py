"""The commands of docs/slurm.md, unchanged, and the submit options in its table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runmem.cli.submit import command as submit

PAGE = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text("utf-8")
APP = """
import os, sys, time
from runmem import task, wait_on

@task(returns=1)
def where(i):
    time.sleep(0.5)
    return os.environ["SLURMD_NODENAME"]

if __name__ == "__main__":
    print(sorted(set(wait_on([where(i) for i in range(12)]))), sys.argv[1:])
"""


def block(beginning: str) -> str:
    """Return the shell block of the page that contains a text."""
    (found,) = [text for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if beginning in text]
    return str(found)


@pytest.fixture
def shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return a function that runs a command of the page in the folder of ``app.py``."""
    (folder / "app.py").write_text(APP)
    (folder / "input.csv").write_text("1\n")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL
        )

    return run


def test_the_job_of_the_page_runs_on_both_nodes_and_measures_them(
    shell: Callable[[str], subprocess.CompletedProcess[str]], folder: Path
) -> None:
    done = shell(block("runmem submit"))
    assert (done.returncode, done.stdout) == (0, "['n1', 'n2'] ['input.csv']\n"), done.stderr
    assert "COMPLETED, exit code 0" in done.stderr
    assert all((folder / f"{node}.dat").stat().st_size for node in ("n1", "n2"))
    records = [json.loads(line) for line in (folder / "runmem_runs/app_01/tasks.jsonl").read_text().splitlines()]
    assert {(record["status"], record["limit_bytes"]) for record in records} == {("finished", 400 * 2**20)}


def test_workers_of_the_page_are_jobs_in_the_queue_and_the_time_that_are_asked_for(
    shell: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    done = shell(block("DASK_JOBQUEUE__SLURM__QUEUE"))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\['n[12]'(, 'n2')?\] \[\]\n", done.stdout)  # a worker may join when all is done
    jobs = shell("sacct -n -X -P --name=dask-worker -o JobID,Partition,Timelimit,ReqMem").stdout.splitlines()[-8:]
    assert len(jobs) == 8
    assert {job.partition("|")[2] for job in jobs} == {"debug|01:00:00|2G"}


def test_inside_of_a_job_its_nodes_are_the_cluster(shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    (command,) = re.findall(r"`(runmem --cluster allocation [^`]*)`", PAGE)
    done = shell(f"salloc --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=1500 {command}")
    assert (done.returncode, done.stdout) == (0, "['n1', 'n2'] []\n"), done.stderr


def test_every_option_that_the_page_lists_is_one_of_submit_and_every_one_of_enqueue_compss_is_listed() -> None:
    table = PAGE.partition("| option | meaning | sbatch |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`(--\w+)", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    known = {name for parameter in submit.params for name in parameter.opts}
    assert listed <= known
    assert {
        "--num_nodes", "--exec_time", "--job_name", "--queue", "--qos", "--reservation", "--project_name",
        "--constraints", "--job_dependency", "--extra_submit_flag", "--pre_env_script", "--worker_memory",
    } <= listed  # fmt: skip
