"""Workers as jobs of each batch system, started from a login node. Inside a Slurm job, use `allocation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster
from runmem.errors import ClusterError

__all__ = ["HTCondorCluster", "LsfCluster", "PbsCluster", "SgeCluster", "SlurmCluster"]


class SlurmCluster(JobQueueCluster):
    """Jobs of Slurm, by `dask_jobqueue.SLURMCluster`."""

    kind: ClassVar[str] = "slurm"
    dask_class: ClassVar[str] = "SLURMCluster"
    program: ClassVar[str] = "sbatch"

    def fault_in_system(self, message: str) -> str | None:
        """Check for a missing configuration and a controller that does not answer."""
        from runmem.slurm.reasons import fault_in_slurm  # here, because every run imports this file

        return fault_in_slurm(message)

    def why_waiting(self, jobs: Sequence[str]) -> str | None:
        """Ask `squeue` for the states of the jobs and their reasons."""
        from runmem.slurm.client import jobs_in_queue

        found = jobs_in_queue(jobs)
        if found and all(job.has_ended for job in found):
            states = ", ".join(sorted({job.state for job in found}))
            raise ClusterError(
                f"--cluster slurm: every job of a worker ended before it had joined ({states}); see slurm-<job>.out of "
                f"{', '.join(jobs)}."
            )
        if found and all(job.never_starts for job in found):
            raise ClusterError(
                f"--cluster slurm: the jobs of the workers can never start ({found[0].explanation}) and are cancelled. "
                "Change section jobqueue.slurm of Dask's configuration."
            )
        waiting = next((job for job in found if job.explanation is not None), None)
        if waiting is None:
            return None
        expected = "" if waiting.expected_start is None else f", expected to start at {waiting.expected_start}"
        return f"{waiting.explanation}{expected}"


class PbsCluster(JobQueueCluster):
    """Jobs of PBS, by `dask_jobqueue.PBSCluster`."""

    kind: ClassVar[str] = "pbs"
    dask_class: ClassVar[str] = "PBSCluster"
    program: ClassVar[str] = "qsub"


class SgeCluster(JobQueueCluster):
    """Jobs of SGE, by `dask_jobqueue.SGECluster`."""

    kind: ClassVar[str] = "sge"
    dask_class: ClassVar[str] = "SGECluster"
    program: ClassVar[str] = "qsub"


class LsfCluster(JobQueueCluster):
    """Jobs of LSF, by `dask_jobqueue.LSFCluster`."""

    kind: ClassVar[str] = "lsf"
    dask_class: ClassVar[str] = "LSFCluster"
    program: ClassVar[str] = "bsub"


class HTCondorCluster(JobQueueCluster):
    """Jobs of HTCondor, by `dask_jobqueue.HTCondorCluster`."""

    kind: ClassVar[str] = "htcondor"
    dask_class: ClassVar[str] = "HTCondorCluster"
    program: ClassVar[str] = "condor_submit"
    required_options: ClassVar[dict[str, str]] = {"disk": "1GiB"}
