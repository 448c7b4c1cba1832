"""Counterparts of `lsst.pipe.base`: metadata, `Struct`, `timeMethod`, Butlers."""

from __future__ import annotations

from runmem.pipe_base.butler import Butler, ButlerError, DatasetNotFoundError, FolderButler
from runmem.pipe_base.errors import MetadataError, MetricComputationError, NoWorkFound
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.struct import Struct
from runmem.pipe_base.time_method import timeMethod

__all__ = [
    "Butler", "ButlerError", "DatasetNotFoundError", "FolderButler", "MetadataError", "MetricComputationError",
    "NoWorkFound", "Struct", "TaskMetadata", "timeMethod",
]  # fmt: skip
