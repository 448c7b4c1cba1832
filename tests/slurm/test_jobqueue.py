"""Workers as jobs, started outside a job: `runmem --cluster slurm`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

APP = """
import os, sys, time
from runmem import task, wait_on

@task(returns=1)
def where(i):
    held = bytearray(40 * 2**20)
    time.sleep(0.5)
    return os.environ["SLURMD_NODENAME"]

if __name__ == "__main__":
    print(sorted(set(wait_on([where(i) for i in range(12)]))))
    sys.exit(5)
"""


@pytest.fixture
def app(folder: Path) -> str:
    (folder / "app.py").write_text(APP)
    return "app.py"


def jobs() -> list[str]:
    states = "PENDING,RUNNING"
    return subprocess.run(["squeue", "-h", "-t", states, "-o", "%i"], capture_output=True, text=True).stdout.split()


def test_workers_are_jobs_that_end_with_the_program(
    folder: Path, app: str, runmem: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    done = runmem("--cluster=slurm", "--workers=3", "--worker_memory=400MiB", "--python_memory_profile", app)
    assert done.returncode == 5, done.stderr
    assert "n1" in done.stdout
    provenance = json.loads((folder / "runmem_runs/app_01/run.json").read_text())
    assert provenance["cluster"] == "slurm"
    assert provenance["lost"] == []
    records = [json.loads(line) for line in (folder / "runmem_runs/app_01/tasks.jsonl").read_text().splitlines()]
    assert len(records) == 12
    assert {record["node"] for record in records} == set(provenance["nodes"]) - {provenance["host"]}
    assert all((folder / f"{record['node']}.dat").is_file() for record in records)
    eventually(lambda: not jobs())
    assert list(folder.glob(".runmem-tls-*")) == []  # the key of the run is gone with it


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
