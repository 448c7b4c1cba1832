"""Workers as jobs of Slurm, from a login node; inside a job `allocation` is what runs on its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster
from runmem.errors import ClusterError

__all__ = ["SlurmCluster"]


class SlurmCluster(JobQueueCluster):
    """Jobs of Slurm, by `dask_jobqueue.SLURMCluster`."""

    kind: ClassVar[str] = "slurm"
    dask_class: ClassVar[str] = "SLURMCluster"
    program: ClassVar[str] = "sbatch"

    def fault_in_system(self, message: str) -> str | None:
        """Check whether a configuration is missing, or the controller does not answer."""
        from runmem.slurm.reasons import fault_in_slurm  # here, since every run imports this file

        return fault_in_slurm(message)

    def why_waiting(self, jobs: Sequence[str]) -> str | None:
        """Ask `squeue` for the states of the jobs and their reasons."""
        from runmem.slurm.client import jobs_in_queue

        found = jobs_in_queue(jobs)
        if found and all(job.has_ended for job in found):
            states = ", ".join(sorted({job.state for job in found}))
            raise ClusterError(
                f"--cluster slurm: every job of a worker ended before it had joined ({states}); "
                f"slurm-<job>.out of {', '.join(jobs)} tells why."
            )
        if found and all(job.never_starts for job in found):
            raise ClusterError(
                f"--cluster slurm: no job of a worker will start as it is ({found[0].explanation}); they are "
                "cancelled. Dask's configuration, section jobqueue.slurm, says what a job asks for."
            )
        waiting = next((job for job in found if job.explanation is not None), None)
        if waiting is None:
            return None
        expected = "" if waiting.expected_start is None else f", expected to start at {waiting.expected_start}"
        return f"{waiting.explanation}{expected}"
