"""The configuration of a metric task, with the attributes of LSST's metric tasks."""

from __future__ import annotations

from typing import ClassVar

from runmem.errors import SettingError
from runmem.metrics.connections import SingleMetadataMetricConnections
from runmem.pipe_base.config import Config, ConfigField, Field, ListField
from runmem.verify.name import checked_part

__all__ = ["MetadataMetricConfig", "MetricConnections", "TimeMethodMetricConfig"]

_INPUT = "{labelName}_metadata"


class MetricConnections(Config):
    """The names of input and output.

    Attributes
    ----------
    package, metric : str
        Parts of the metric's name ``package.metric``, without dots.
    labelName : str
        Label of the task whose metadata are read.
    metadata : str
        Name of the input, in which ``{labelName}`` stands for the label; the older form names it in full.
    measurement : str
        Name of the output, in which ``{package}`` and ``{metric}`` stand for these.
    """

    ConnectionsClass: ClassVar[type[SingleMetadataMetricConnections]] = SingleMetadataMetricConnections

    package = Field("first part of the metric's name", str)
    metric = Field("second part of the metric's name", str)
    labelName = Field("label of the task whose metadata are read", str, default="")
    metadata = Field("name of the metadata that are read", str, default=_INPUT)
    measurement = Field("name of the measurement that is written", str, default="metricvalue_{package}_{metric}")

    @property
    def inputName(self) -> str:
        """Name of the metadata that are read."""
        return self._filled(self.metadata)

    @property
    def outputName(self) -> str:
        """Name of the measurement that is written."""
        return self._filled(self.measurement)

    def _filled(self, template: str) -> str:
        for name in ("package", "metric", "labelName"):
            template = template.replace(f"{{{name}}}", str(getattr(self, name)))
        return template


class MetadataMetricConfig(Config):
    """The name of the metric and of its metadata; unknown attributes are refused.

    It has ``update``, ``load``, ``save``, ``freeze`` and ``compare`` as LSST's configurations.

    Attributes
    ----------
    connections : MetricConnections
    metadataDimensions : list of str
        Dimensions of the metadata, for pipelines.
    saveLogOutput, saveMetadata : bool
        Whether a pipeline keeps the log and the metadata of the metric task itself (`saveMetadata`: the older form).
        `run` of a metric task ignores both.
    """

    ConnectionsClass: ClassVar[type[SingleMetadataMetricConnections]] = SingleMetadataMetricConnections

    connections = ConfigField("names of input and output", MetricConnections)
    metadataDimensions = ListField("dimensions of the metadata", default=["detector", "instrument", "visit"])
    saveLogOutput = Field("whether a pipeline keeps the log of the metric task", bool, default=True)
    saveMetadata = Field("whether a pipeline keeps the metadata of the metric task", bool, default=True)

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
            checked_part(name, getattr(self.connections, name), f"connections.{name} is ")
        for name in ("metadata", "measurement"):
            if not getattr(self.connections, name):
                raise SettingError(
                    f"connections.{name} is {getattr(self.connections, name)!r}: expected the name of a dataset type"
                )
        super().validate()


class TimeMethodMetricConfig(MetadataMetricConfig):
    """The method to measure, beside what `MetadataMetricConfig` has.

    Attributes
    ----------
    target : str
        The method or function, such as ``wordcount.count_words``, or an end of its full name. Required.
    """

    target = Field("the method to measure", str)

    def validate(self) -> None:
        """Check the values. Raises `SettingError` as the base class does, and without a target."""
        if not self.target:
            raise SettingError(
                f"target is {self.target!r}: name the task to measure, for example wordcount.count_words"
            )
        super().validate()
