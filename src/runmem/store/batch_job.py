"""The batch job in which a worker runs: each worker notes it in the spool, so that its end can be looked up later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from runmem.store.append import LineAppender
from runmem.store.layout import Spool

__all__ = ["SLURM", "BatchJob", "job_in_line", "note_own_job"]

SLURM = "Slurm"
_VARIABLES = {  # of the number of a job: system, and a variable that only jobs of that system have
    "SLURM_JOB_ID": (SLURM, "SLURM_JOB_ID"),
    "PBS_JOBID": ("PBS", "PBS_JOBID"),
    "LSB_JOBID": ("LSF", "LSB_JOBID"),
    "OAR_JOB_ID": ("OAR", "OAR_JOB_ID"),
    "JOB_ID": ("Grid Engine", "SGE_TASK_ID"),
}


class BatchJob(NamedTuple):
    """A job of a batch system.

    Attributes
    ----------
    system : str
        ``Slurm``, ``PBS``, ``LSF``, ``OAR`` or ``Grid Engine``.
    number : str
        As the system writes it.
    step : str or None
        Number of the step of a job of Slurm; None in its script.
    memory_bytes : int or None
        What a job of Slurm may use on the node; None: not known.
    """

    system: str
    number: str
    step: str | None = None
    memory_bytes: int | None = None

    def __str__(self) -> str:
        return f"job {self.number} of {self.system}"

    @classmethod
    def of_environment(cls, environment: Mapping[str, str], memory_bytes: int | None = None) -> BatchJob | None:
        """Return the job of a process with these variables; None if it runs in none."""
        for variable, (system, proof) in _VARIABLES.items():
            if (number := environment.get(variable, "").strip()) and environment.get(proof):
                step = environment.get("SLURM_STEP_ID") if system == SLURM else None
                return cls(system, number, step, memory_bytes if system == SLURM else None)
        return None


def note_own_job(spool: Spool, memory_bytes: int | None) -> None:
    """Write the job of this process to the spool, if it runs in one. On a full disk it is not noted.

    Parameters
    ----------
    memory_bytes : int or None
        What the job may use on this node, if it is one of Slurm.
    """
    job = BatchJob.of_environment(os.environ, memory_bytes)
    if job is None:
        return
    with suppress(OSError):
        file = LineAppender(spool.jobs)
        file.write(json.dumps({"pid": os.getpid(), **job._asdict()}).encode() + b"\n")
        file.close()


def job_in_line(line: bytes) -> tuple[int, BatchJob]:
    """Return the process id and the job in a line that `note_own_job` has written.

    Raises ValueError, KeyError or TypeError for another line.
    """
    values = json.loads(line)
    job = BatchJob(values["system"], values["number"], values["step"], values["memory_bytes"])
    texts, numbers = (job.system, job.number, job.step or ""), (values["pid"], job.memory_bytes or 0)
    if any(type(text) is not str for text in texts) or any(type(number) is not int for number in numbers):
        raise ValueError("a batch job with a value of another type")
    return values["pid"], job
