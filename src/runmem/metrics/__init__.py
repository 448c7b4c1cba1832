"""Measure metrics of a run: the metric tasks and their inputs."""

from __future__ import annotations

from runmem.metrics.connections import SingleMetadataMetricConnections
from runmem.metrics.from_butler import runFromButler
from runmem.metrics.from_records import metadata_from_records
from runmem.metrics.measured_run import MeasuredRun, read_measured_runs
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricConnections, MemoryMetricTask
from runmem.metrics.metric_config import MetadataMetricConfig, MetricConnections, TimeMethodMetricConfig
from runmem.metrics.metric_task import MetadataMetricTask
from runmem.metrics.timing_metric import CpuTimingMetricTask, TimingMetricTask

__all__ = [
    "CpuTimingMetricTask", "MeasuredRun", "MemoryMetricConfig", "MemoryMetricConnections", "MemoryMetricTask",
    "MetadataMetricConfig", "MetadataMetricTask", "MetricConnections", "SingleMetadataMetricConnections",
    "TimeMethodMetricConfig", "TimingMetricTask", "metadata_from_records", "read_measured_runs", "runFromButler",
]  # fmt: skip
