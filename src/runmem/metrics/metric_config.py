"""The configuration of a metric task, with the attributes of LSST's metric tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from runmem.errors import SettingError
from runmem.verify.name import checked_part

__all__ = ["MetricConnections", "TimeMethodMetricConfig"]


@dataclass(slots=True)
class MetricConnections:
    """The names of input and output.

    Attributes
    ----------
    package, metric : str
        Parts of the metric's name ``package.metric``, without dots.
    labelName : str
        Label of the task whose metadata are read.
    metadata : str or None
        Full name of the input, instead of `labelName` (the older form).
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
    """The method to measure and the name of the metric; unknown attributes are refused.

    Attributes
    ----------
    connections : MetricConnections
    target : str
        The method or function, such as ``wordcount.count_words``, or an end of its full name. Required.
    metadataDimensions : list of str
        Dimensions of the metadata, for pipelines.
    saveLogOutput, saveMetadata : bool
        Whether a pipeline keeps the log and the metadata of the metric task itself (`saveMetadata`: the older form).
        `run` of a metric task ignores both.
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
            (a `ValueError`) If a required value is missing, a type is wrong, or the package or the metric has a dot.
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
