"""The metric tasks as tasks of LSST's pipelines: for ``Pipeline.addTask``, ``pipetask run`` and configuration files."""

from __future__ import annotations

import dataclasses
from typing import Any

import lsst.pex.config as pex_config
import lsst.pipe.base
from lsst.pipe.base import connectionTypes

from runmem.lsst.measurements import storage_class, stored_form
from runmem.metrics import memory_metric, metric_task, timing_metric
from runmem.pipe_base import errors
from runmem.pipe_base.errors import MetricComputationError
from runmem.verify.name import checked_part

__all__ = [
    "CpuTimingMetricTask", "MemoryMetricConfig", "MemoryMetricTask", "MetadataMetricConfig", "MetadataMetricTask",
    "NoWorkFound", "SingleMetadataMetricConnections", "TimeMethodMetricConfig", "TimingMetricConfig",
    "TimingMetricTask",
]  # fmt: skip

_DIMENSIONS = ("instrument", "visit", "detector")


class NoWorkFound(errors.NoWorkFound, lsst.pipe.base.NoWorkFound):  # type: ignore[misc]
    """Metadata without values for a metric's target; also the error by which LSST's executors know this."""


class SingleMetadataMetricConnections(  # type: ignore[call-arg]
    lsst.pipe.base.PipelineTaskConnections,  # type: ignore[misc]
    dimensions=_DIMENSIONS,
    defaultTemplates={"labelName": "", "package": None, "metric": None},
):
    """One set of metadata in, one measurement out, with the same data id.

    Templates: ``package`` and ``metric``, the parts of the metric's name; ``labelName``, the label of the task whose
    metadata are read.
    """

    metadata = connectionTypes.Input(
        name="{labelName}_metadata",
        doc="Metadata of the measured task.",
        storageClass="TaskMetadata",
        dimensions=_DIMENSIONS,
    )
    measurement = connectionTypes.Output(
        name="metricvalue_{package}_{metric}",
        doc="Value of the metric.",
        storageClass=storage_class(),
        dimensions=_DIMENSIONS,
    )

    dimensions: Any

    def __init__(self, *, config: Any = None) -> None:
        super().__init__(config=config)
        wanted = None if config is None else frozenset(config.metadataDimensions)
        if wanted is not None and wanted != frozenset(self.dimensions):
            self.dimensions = set(wanted)
            for name in ("metadata", "measurement"):
                setattr(self, name, dataclasses.replace(getattr(self, name), dimensions=wanted))


class MetadataMetricConfig(  # type: ignore[call-arg]
    lsst.pipe.base.PipelineTaskConfig,  # type: ignore[misc]
    pipelineConnections=SingleMetadataMetricConnections,
):
    """The name of the metric, the names of its datasets, and their dimensions."""

    metadataDimensions = pex_config.ListField(
        dtype=str, default=sorted(_DIMENSIONS), doc="Dimensions of the metadata, and so of the measurement."
    )

    @property
    def metricName(self) -> str:
        """``package.metric``."""
        return f"{self.connections.package}.{self.connections.metric}"

    def validate(self) -> None:
        """Check the values. Raises `ValueError`."""
        super().validate()
        for name in ("package", "metric"):
            checked_part(name, getattr(self.connections, name), f"connections.{name} is ")


class TimeMethodMetricConfig(MetadataMetricConfig):
    """The method to measure, beside what `MetadataMetricConfig` has."""

    target = pex_config.Field(
        dtype=str, doc="The method to measure, with the names of its tasks before it or an end of that: isr.run."
    )


MemoryMetricConfig = TimingMetricConfig = TimeMethodMetricConfig


class _MetricPipelineTask(metric_task.MetadataMetricTask):
    """What makes a metric task one of a pipeline: before it in the bases of a class, whose last is PipelineTask."""

    log: Any

    def __init__(self, config: Any = None, **options: Any) -> None:
        lsst.pipe.base.PipelineTask.__init__(self, config=config, **options)

    def run(self, metadata: object) -> lsst.pipe.base.Struct:
        """Return ``Struct(measurement=...)``, as the task of the same name in `runmem.metrics`.

        Raises
        ------
        NoWorkFound
            Also an ``lsst.pipe.base.NoWorkFound``.
        MetricComputationError
            For metadata that are malformed.
        """
        try:
            return lsst.pipe.base.Struct(measurement=super().run(metadata).measurement)
        except errors.NoWorkFound as error:
            if isinstance(error, lsst.pipe.base.NoWorkFound):
                raise
            raise NoWorkFound(*error.args) from error

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        """Measure the metadata of a quantum and store the measurement.

        As in ``lsst.verify``, metadata that are malformed are logged as an error, and nothing is stored for them.
        """
        try:
            measurement = self.run(**butlerQC.get(inputRefs)).measurement
        except MetricComputationError:
            self.log.exception("no %s for %s", outputRefs.measurement.datasetType.name, outputRefs.measurement.dataId)
            return
        if measurement is not None:
            kind = outputRefs.measurement.datasetType.storageClass_name
            butlerQC.put(stored_form(measurement, kind), outputRefs.measurement)


class MetadataMetricTask(_MetricPipelineTask, lsst.pipe.base.PipelineTask):  # type: ignore[misc]
    """A metric computed from values of a task's metadata: subclass it, as `runmem.metrics.MetadataMetricTask`."""

    ConfigClass = MetadataMetricConfig
    _DefaultName = "metadataMetric"


class MemoryMetricTask(_MetricPipelineTask, memory_metric.MemoryMetricTask, lsst.pipe.base.PipelineTask):  # type: ignore[misc]
    """`runmem.metrics.MemoryMetricTask` for pipelines."""

    ConfigClass = TimeMethodMetricConfig
    _DefaultName = "memoryMetric"


class TimingMetricTask(_MetricPipelineTask, timing_metric.TimingMetricTask, lsst.pipe.base.PipelineTask):  # type: ignore[misc]
    """`runmem.metrics.TimingMetricTask` for pipelines."""

    ConfigClass = TimeMethodMetricConfig
    _DefaultName = "timingMetric"


class CpuTimingMetricTask(_MetricPipelineTask, timing_metric.CpuTimingMetricTask, lsst.pipe.base.PipelineTask):  # type: ignore[misc]
    """`runmem.metrics.CpuTimingMetricTask` for pipelines."""

    ConfigClass = TimeMethodMetricConfig
    _DefaultName = "cpuTimingMetric"
