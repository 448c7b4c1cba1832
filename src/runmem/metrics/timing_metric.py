"""Measure the time of a task from its metadata: the counterparts of ``lsst.verify``'s timing metrics."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from runmem.metrics.metric_config import TimeMethodMetricConfig
from runmem.metrics.metric_task import MetadataMetricTask, metadata_from
from runmem.pipe_base.errors import MetricComputationError
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.struct import Struct
from runmem.verify.datum import Datum
from runmem.verify.measurement import Measurement

__all__ = ["CpuTimingMetricTask", "TimingMetricTask"]

_LARGEST_S = sys.float_info.max


class _ElapsedMetricTask(MetadataMetricTask, ABC):
    """A metric that is the difference of two clock readings, for several calls the maximum.

    (``lsst.verify`` takes the last call.)
    """

    _clock: ClassVar[str]

    @classmethod
    def getInputMetadataKeys(cls, config: TimeMethodMetricConfig) -> dict[str, str]:
        """Return the keys of start and end, as clock readings and as times of day."""
        moments = {"StartTime": f"Start{cls._clock}", "EndTime": f"End{cls._clock}"}
        stamps = {"StartTimestamp": "StartUtc", "EndTimestamp": "EndUtc"}
        return {name: f"{config.target}{item}" for name, item in (moments | stamps).items()}

    def run(self, metadata: object) -> Struct:
        """Return ``Struct(measurement=...)``, in seconds; see `MetadataMetricTask.run`.

        Raises
        ------
        NoWorkFound
            If the metadata have neither the start nor the end.
        MetricComputationError
            If they have only one of them, several keys match, or a value is malformed.
        """
        content = metadata_from(metadata)
        fragments = self.getInputMetadataKeys(self.config)
        keys = {name: self.matching_key(content, fragment) for name, fragment in fragments.items()}
        start_key, end_key = keys["StartTime"], keys["EndTime"]
        if start_key is None and end_key is None:
            raise self.no_work(content, fragments["EndTime"])
        if start_key is None or end_key is None:
            present, missing = (end_key, "StartTime") if start_key is None else (start_key, "EndTime")
            raise MetricComputationError(f"invalid metadata: {present} without {fragments[missing]}")
        starts, ends = (content.getArray(key) for key in (start_key, end_key))
        if not starts or len(starts) != len(ends):
            raise MetricComputationError(
                f"invalid metadata: {start_key} has {len(starts)} values and {end_key} has {len(ends)}: expected one "
                "of each for every call"
            )
        pairs = zip(starts, ends, strict=True)
        elapsed_s = [self._elapsed_s(start_key, start, end_key, end) for start, end in pairs]
        at = elapsed_s.index(max(elapsed_s))
        values = {"StartTime": starts[at], "EndTime": ends[at], "elapsed_s": elapsed_s[at]}
        values |= {name: _stamp(content, keys[name], at, len(starts)) for name in ("StartTimestamp", "EndTimestamp")}
        measurement = self.makeMeasurement(values)
        if measurement is not None and len(starts) > 1:
            measurement.notes["values"] = f"the maximum of {len(starts)} values"
        return Struct(measurement=measurement)

    def makeMeasurement(self, values: Mapping[str, object]) -> Measurement | None:
        """Return the measurement of ``values["elapsed_s"]``, with the times of day as extras."""
        stamps = {"start": values.get("StartTimestamp"), "end": values.get("EndTimestamp")}
        extras = {name: Datum(stamp) for name, stamp in stamps.items() if stamp is not None}
        notes = {"estimator": "utils.timer.timeMethod"}
        return Measurement(self.config.metricName, values["elapsed_s"], "s", notes=notes, extras=extras)

    def _elapsed_s(self, start_key: str, start: object, end_key: str, end: object) -> float:
        elapsed_s = self._reading_s(end_key, end) - self._reading_s(start_key, start)
        if elapsed_s < 0:
            raise MetricComputationError(f"invalid metadata: {end_key} = {end!r} is before {start_key} = {start!r}")
        return elapsed_s

    @staticmethod
    @abstractmethod
    def _reading_s(key: str, value: Any) -> float:
        """Return a clock reading in seconds; raises `MetricComputationError` if it is not valid."""


class TimingMetricTask(_ElapsedMetricTask):
    """Compute the wall-clock time of one task, in seconds: from ``<target>StartUtc`` to ``<target>EndUtc``.

    Assumption: the clock was not set meanwhile. Limitation: the resolution of the keys is a microsecond.
    """

    _clock = "Utc"

    @staticmethod
    def _reading_s(key: str, value: Any) -> float:
        try:
            moment = datetime.fromisoformat(value)
            return moment.timestamp() if moment.tzinfo else datetime.fromisoformat(f"{value}+00:00").timestamp()
        except (TypeError, ValueError, OverflowError) as error:
            raise MetricComputationError(
                f"invalid metadata: {key} = {value!r} is not a time such as 2026-01-31T12:00:00.000000+00:00"
            ) from error


class CpuTimingMetricTask(_ElapsedMetricTask):
    """Compute the processor time of one task, in seconds: ``<target>EndCpuTime`` less ``<target>StartCpuTime``.

    Limitation: ``timeMethod`` reads the clock of the whole process, so the time includes other threads; records of a
    run have the time of the task's thread.
    """

    _clock = "CpuTime"

    @staticmethod
    def _reading_s(key: str, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not abs(value) <= _LARGEST_S:  # also for NaN
            raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a number of seconds")
        return float(value)


def _stamp(metadata: TaskMetadata, key: str | None, at: int, count: int) -> str | None:
    """Return the time of day of reading `at` of `count`, None if there is not one for each."""
    values = [] if key is None else metadata.getArray(key)
    if len(values) != count:
        return None
    stamp = values[at]
    if not isinstance(stamp, str):
        raise MetricComputationError(f"invalid metadata: {key} = {stamp!r} is not a time of day")
    return stamp
