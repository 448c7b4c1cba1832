"""Workers as jobs of Slurm, from a login node; inside a job `allocation` is what runs on its nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster
from runmem.clusters.slurm_words import HOPELESS, explained, out_of_reach
from runmem.errors import ClusterError

__all__ = ["SlurmCluster"]

_ANSWER_S = 60


class SlurmCluster(JobQueueCluster):
    """Jobs of Slurm, by `dask_jobqueue.SLURMCluster`."""

    kind: ClassVar[str] = "slurm"
    dask_class: ClassVar[str] = "SLURMCluster"
    program: ClassVar[str] = "sbatch"

    def out_of_reach(self, said: str) -> str | None:
        """Return whether a configuration is missing, or the controller does not answer."""
        return out_of_reach(said)

    def why_waiting(self, jobs: Sequence[str]) -> str | None:
        """Return the states of the jobs and their reasons, as `squeue` has them."""
        command = ["squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", "%T|%r|%S"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_S)
        except (OSError, subprocess.TimeoutExpired):
            return None
        lines = [line.split("|", 2) for line in done.stdout.splitlines() if line.count("|") == 2]
        pending = [(reason, start) for state, reason, start in lines if state == "PENDING"]
        ended = [state for state, _, _ in lines if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")]
        if lines and len(ended) == len(lines):
            raise ClusterError(
                f"--cluster slurm: every job of a worker ended before it had joined ({', '.join(sorted(set(ended)))}); "
                f"slurm-<job>.out of {', '.join(jobs)} tells why."
            )
        if pending and len(pending) == len(lines) and all(reason in HOPELESS for reason, _ in pending):
            raise ClusterError(
                f"--cluster slurm: no job of a worker will start as it is ({explained(pending[0][0])}); they are "
                "cancelled. Dask's configuration, section jobqueue.slurm, says what a job asks for."
            )
        if not pending:
            return None
        reason, start = pending[0]
        expected = f", expected to start at {start}" if start not in ("N/A", "Unknown") else ""
        return f"{explained(reason)}{expected}"
