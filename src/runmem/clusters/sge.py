"""Workers as jobs of SGE."""

from __future__ import annotations

from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster

__all__ = ["SgeCluster"]


class SgeCluster(JobQueueCluster):
    """Jobs of SGE, by `dask_jobqueue.SGECluster`."""

    kind: ClassVar[str] = "sge"
    dask_class: ClassVar[str] = "SGECluster"
    program: ClassVar[str] = "qsub"
