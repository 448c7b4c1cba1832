"""Workers as jobs, started outside a job: `runmem --cluster slurm`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

APP = """
import json, os, subprocess, sys, time
from runmem import TaskKilledError, task, wait_on

@task(returns=1)
def where(i):
    held = bytearray(40 * 2**20)
    time.sleep(0.5)
    return os.environ["SLURMD_NODENAME"]

@task(returns=1)
def hoard():
    return len(bytearray(b"1") * (900 * 2**20))

@task(returns=1)
def cancel_own_job():
    time.sleep(0.5)
    subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)
    time.sleep(60)

if __name__ == "__main__":
    print(sorted(set(wait_on([where(i) for i in range(12)]))))
    for call in (hoard, cancel_own_job)[:len(sys.argv) - 1]:
        try:
            wait_on(call())
        except TaskKilledError as error:
            print(json.dumps([error.kind, error.cause, error.limit_bytes]))
    sys.exit(5)
"""


@pytest.fixture
def app(folder: Path) -> str:
    (folder / "app.py").write_text(APP)
    return "app.py"


def jobs() -> list[str]:
    states = "PENDING,RUNNING"
    return subprocess.run(["squeue", "-h", "-t", states, "-o", "%i"], capture_output=True, text=True).stdout.split()


def test_workers_are_jobs_that_end_with_the_program_and_what_slurm_ends_is_told_apart(
    slurm: Path, folder: Path, app: str, runmem: Callable[..., Any], eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE", "False")  # Slurm is to do it, not Dask's nanny
    limits_jobs = (slurm / "gather").read_text().strip() == "cgroup"
    options = ("--cluster=slurm", "--workers=3", "--worker_memory=400MiB", "--python_memory_profile")
    done = runmem(*options, "--on_memory=fail", app, *(("hoard", "cancel") if limits_jobs else ()))
    assert done.returncode == 5, done.stderr
    nodes, *told = done.stdout.splitlines()
    assert "n1" in nodes
    provenance = json.loads((folder / "runmem_runs/app_01/run.json").read_text())
    assert provenance["cluster"] == "slurm"
    records = [json.loads(line) for line in (folder / "runmem_runs/app_01/tasks.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["finished"] * 12 + ["killed"] * len(told)
    assert {record["node"] for record in records} == set(provenance["nodes"]) - {provenance["host"]}
    assert all((folder / f"{record['node']}.dat").is_file() for record in records)
    eventually(lambda: not jobs())
    assert list(folder.glob(".runmem-tls-*")) == []  # the key of the run is gone with it
    if not limits_jobs:
        assert provenance["lost"] == []
        return
    (hoarded, full, limit), (gone, cancelled, _) = map(json.loads, told)
    assert (hoarded, limit) == ("slurm limit", 400 * 2**20), done.stderr
    assert re.match(r"the kernel's out-of-memory killer ended the worker \(signal 9\): Slurm's job \d+ ", full)
    assert gone == "node gone", done.stderr
    assert re.fullmatch(r"job \d+ of Slurm was cancelled by \w+ \(CANCELLED\)", cancelled), done.stderr
    assert f" was killed on node {records[-1]['node']}: {cancelled}\n" in done.stderr
    assert "distributed" not in done.stderr  # Dask's log
    assert cancelled.partition(" was")[0] in provenance["nodes"][records[-1]["node"]]["jobs"]


def test_a_queue_that_does_not_exist_is_told_before_the_program_starts(
    folder: Path, app: str, runmem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__QUEUE", "nope")
    done = runmem("--cluster=slurm", "--workers=1", app)
    assert done.returncode == 2
    assert "invalid partition specified: nope" in done.stderr
    assert "jobqueue.slurm" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "runmem_runs").exists()
    assert list(folder.glob(".runmem-tls-*")) == []


def test_jobs_that_never_start_are_told_with_the_reason_and_cancelled(
    folder: Path, app: str, runmem: Callable[..., Any], eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__WALLTIME", "90:00:00")
    done = runmem("--cluster=slurm", "--workers=1", app)
    assert done.returncode == 2
    assert "the jobs of the workers can never start (Partition" in done.stderr
    assert "distributed" not in done.stderr  # Dask's log
    eventually(lambda: not jobs())


def test_a_system_that_is_not_here_is_told(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("--cluster=pbs", "--workers=1", app)
    assert done.returncode == 2
    assert "there is no `qsub` on the PATH" in done.stderr


def test_how_many_jobs_must_be_said(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("--cluster=slurm", app)
    assert done.returncode == 2
    assert "--cluster slurm needs --workers" in done.stderr


def test_outside_of_a_job_there_is_no_allocation(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("--cluster=allocation", app)
    assert done.returncode == 2
    assert "not a Slurm job" in done.stderr
