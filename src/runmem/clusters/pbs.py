"""Workers as jobs of PBS."""

from __future__ import annotations

from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster

__all__ = ["PbsCluster"]


class PbsCluster(JobQueueCluster):
    """Jobs of PBS, by `dask_jobqueue.PBSCluster`."""

    kind: ClassVar[str] = "pbs"
    dask_class: ClassVar[str] = "PBSCluster"
    program: ClassVar[str] = "qsub"
