"""The batch job of a worker, by its environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runmem.store.batch_job import BatchJob, job_in_line, note_own_job
from runmem.store.layout import Spool


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "12"}, BatchJob("Slurm", "12", None, 5)),
        ({"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0"}, BatchJob("Slurm", "12", "0", 5)),
        ({"PBS_JOBID": "7.server", "PBS_ENVIRONMENT": "PBS_BATCH"}, BatchJob("PBS", "7.server")),
        ({"LSB_JOBID": "3"}, BatchJob("LSF", "3")),
        ({"OAR_JOB_ID": "4"}, BatchJob("OAR", "4")),
        ({"JOB_ID": "9", "SGE_TASK_ID": "undefined"}, BatchJob("Grid Engine", "9")),
        ({"JOB_ID": "9"}, None),
        ({"SLURM_JOB_ID": ""}, None),
        ({}, None),
    ],
)
def test_the_job_of_a_process_is_in_its_environment(environment: dict[str, str], job: BatchJob | None) -> None:
    assert BatchJob.of_environment(environment, 5) == job


def test_each_process_of_a_node_notes_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    for number in ("12", "13"):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        monkeypatch.delenv("SLURM_STEP_ID", raising=False)
        note_own_job(spool, 5)
    lines = spool.jobs.read_bytes().splitlines()
    assert [job_in_line(line) for line in lines] == [
        (os.getpid(), BatchJob("Slurm", number, None, 5)) for number in ("12", "13")
    ]


@pytest.mark.parametrize("line", [b"", b"[]", b'{"pid": 1}', b'{"pid": "1", "system": 2, "number": 3, "step": null}'])
def test_another_line_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        job_in_line(line)
