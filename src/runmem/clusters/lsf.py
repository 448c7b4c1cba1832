"""Workers as jobs of LSF."""

from __future__ import annotations

from typing import ClassVar

from runmem.clusters.jobqueue import JobQueueCluster

__all__ = ["LsfCluster"]


class LsfCluster(JobQueueCluster):
    """Jobs of LSF, by `dask_jobqueue.LSFCluster`."""

    kind: ClassVar[str] = "lsf"
    dask_class: ClassVar[str] = "LSFCluster"
    program: ClassVar[str] = "bsub"
