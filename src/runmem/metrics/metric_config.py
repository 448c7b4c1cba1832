"""The configuration of a metric task, in the form that LSST's metric tasks have."""

from __future__ import annotations

from dataclasses import dataclass, field

from runmem.errors import SettingError
from runmem.verify.name import checked_part

__all__ = ["MetricConnections", "TimeMethodMetricConfig"]


@dataclass(slots=True)
class MetricConnections:
    """Names of what goes in and what comes out.

    Attributes
    ----------
    package, metric : str
        The metric is called ``package.metric``; neither part has a dot.
    labelName : str
        Label of the task whose metadata are read.
    metadata : str or None
        Full name of the input, in place of `labelName` (the older form).
    """

    package: str | None = None
    metric: str | None = None
    labelName: str = ""
    metadata: str | None = None

    @property
    def inputName(self) -> str:
        """Name of the metadata that are read."""
        return self.metadata or f"{self.labelName}_metadata"

    @property
    def outputName(self) -> str:
        """Name of the measurement that is written."""
        return f"metricvalue_{self.package}_{self.metric}"


@dataclass(slots=True)
class TimeMethodMetricConfig:
    """Which method's calls are measured, and under what name; an unknown attribute is refused.

    Attributes
    ----------
    connections : MetricConnections
    target : str
        The method or function, such as ``wordcount.count_words``; it may be the end of the full name. Required.
    metadataDimensions : list of str
        Dimensions of the metadata, for pipelines.
    saveLogOutput, saveMetadata : bool
        Whether a pipeline keeps the log and the metadata of the metric task itself (`saveMetadata`: the older form).
        `run` of a metric task writes neither.
    """

    connections: MetricConnections = field(default_factory=MetricConnections)
    target: str | None = None
    metadataDimensions: list[str] = field(default_factory=lambda: ["detector", "instrument", "visit"])
    saveLogOutput: bool = True
    saveMetadata: bool = True

    @property
    def metricName(self) -> str:
        """``package.metric``."""
        return f"{self.connections.package}.{self.connections.metric}"

    def validate(self) -> None:
        """Check the values.

        Raises
        ------
        SettingError
            (a `ValueError`) If a required value is missing, one is of another type, or the package or the metric has a
            dot.
        """
        for name in ("package", "metric"):
            checked_part(name, getattr(self.connections, name), f"connections.{name} is ")
        if not isinstance(self.target, str) or not self.target:
            raise SettingError(
                f"target is {self.target!r}: name the task to measure, for example wordcount.count_words"
            )
        self._check_types()

    def _check_types(self) -> None:
        label, metadata, dimensions = self.connections.labelName, self.connections.metadata, self.metadataDimensions
        if not isinstance(label, str):
            raise SettingError(f"connections.labelName is {label!r}: expected the label of a task, such as isr")
        if metadata is not None and (not isinstance(metadata, str) or not metadata):
            raise SettingError(f"connections.metadata is {metadata!r}: expected the name of a dataset type")
        if not isinstance(dimensions, (list, tuple, set, frozenset)) or not all(isinstance(d, str) for d in dimensions):
            raise SettingError(
                f"metadataDimensions is {dimensions!r}: expected a list of names, such as [instrument, visit, detector]"
            )
        for name in ("saveLogOutput", "saveMetadata"):
            if not isinstance(value := getattr(self, name), bool):
                raise SettingError(f"{name} is {value!r}: expected true or false")
