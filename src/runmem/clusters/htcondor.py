"""Workers as jobs of HTCondor."""

from __future__ import annotations

from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster

__all__ = ["HTCondorCluster"]


class HTCondorCluster(JobQueueCluster):
    """Jobs of HTCondor, by `dask_jobqueue.HTCondorCluster`."""

    kind: ClassVar[str] = "htcondor"
    dask_class: ClassVar[str] = "HTCondorCluster"
    program: ClassVar[str] = "condor_submit"
    insists_on: ClassVar[dict[str, str]] = {"disk": "1GiB"}
