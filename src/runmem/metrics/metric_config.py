"""The configuration of a metric task, in the form that LSST's metric tasks have."""

from __future__ import annotations

from dataclasses import dataclass, field

from runmem.errors import SettingError

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
            (a `ValueError`) If a required value is missing, or the package or the metric has a dot.
        """
        for name in ("package", "metric"):
            value = getattr(self.connections, name)
            if not isinstance(value, str) or not value:
                raise SettingError(f"connections.{name} is {value!r}: the metric needs a {name} name")
            if "." in value:
                raise SettingError(f"connections.{name} is {value!r}: a {name} name may not contain a dot")
        if not isinstance(self.target, str) or not self.target:
            raise SettingError(
                f"target is {self.target!r}: name the task to measure, for example wordcount.count_words"
            )
