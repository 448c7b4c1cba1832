"""Input and output of a metric task, with the attributes of a connections object of ``lsst.pipe.base``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["Connection", "SingleMetadataMetricConnections"]


@dataclass(frozen=True)
class Connection:
    """One dataset that a task reads or writes.

    Attributes
    ----------
    name : str
        Name of the dataset type.
    storageClass : str
        Name of the kind of content, as in ``lsst.daf.butler``.
    dimensions : frozenset of str
        Names in the data id.
    multiple : bool
        Whether there are several datasets.
    doc : str
        What it means.
    """

    name: str
    storageClass: str
    dimensions: frozenset[str]
    doc: str
    multiple: bool = False


class SingleMetadataMetricConnections:
    """The datasets of a metric task: one set of metadata in, one measurement out, with the same data id.

    Parameters
    ----------
    config : MetadataMetricConfig
        Names the datasets, and the dimensions of both.
    """

    initInputs = initOutputs = prerequisiteInputs = frozenset[str]()
    inputs = frozenset({"metadata"})
    outputs = frozenset({"measurement"})

    def __init__(self, *, config: Any) -> None:
        self.dimensions = frozenset(config.metadataDimensions)
        names = config.connections
        self.metadata = Connection(names.inputName, "TaskMetadata", self.dimensions, "metadata of the measured task")
        self.measurement = Connection(names.outputName, "MetricValue", self.dimensions, "value of the metric")

    @property
    def allConnections(self) -> Mapping[str, Connection]:
        """All connections by their names."""
        return MappingProxyType({"metadata": self.metadata, "measurement": self.measurement})
