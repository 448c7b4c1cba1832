"""Measure the time of a task from its metadata: the counterparts of ``lsst.verify``'s timing metrics."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from runmem.metrics.metric_task import MetadataMetricTask
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.pipe_base.metadata import TaskMetadata
from runmem.verify.bounds import LOWER
from runmem.verify.datum import Datum
from runmem.verify.measurement import Measurement

__all__ = ["CpuTimingMetricTask", "TimingMetricTask"]

_LARGEST_S = sys.float_info.max
_TIMES = ("StartTime", "EndTime", "StartTimestamp", "EndTimestamp")  # names of inputs, as in lsst.verify


class _ElapsedMetricTask(MetadataMetricTask, ABC):
    """A metric that is the difference of two clock readings, for several calls the maximum.

    (``lsst.verify`` takes the last call.)
    """

    _readings: ClassVar[tuple[str, str]]
    """Names of the clock readings among the inputs, of start and end."""

    def makeMeasurement(self, values: Mapping[str, Any]) -> Measurement | None:
        """Return the measurement, in seconds, with the times of day as extras.

        Parameters
        ----------
        values : mapping
            The inputs of `getInputMetadataKeys`; None for those that the metadata do not have.

        Raises
        ------
        NoWorkFound
            If there is neither a start nor an end.
        MetricComputationError
            If there is only one of them, or a value is malformed.
        """
        start, end = (values.get(name) for name in self._readings)
        if start is None and end is None:
            raise NoWorkFound(f"the metadata have no {self.getInputMetadataKeys(self.config)[self._readings[1]]}")
        self._check_pair(start is None, end is None, self._readings)
        elapsed_s = self._elapsed_s(self._readings[0], start, self._readings[1], end)
        stamps = {"start": _stamp(values, "StartTimestamp"), "end": _stamp(values, "EndTimestamp")}
        extras = {name: Datum(stamp) for name, stamp in stamps.items() if stamp is not None}
        notes = {"estimator": "utils.timer.timeMethod"}
        return Measurement(self.config.metricName, elapsed_s, "s", notes=notes, extras=extras)

    def _choose_values(self, content: TaskMetadata, keys: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the values of the longest call."""
        start_key, end_key = (keys.get(name) for name in self._readings)
        if start_key is None and end_key is None:
            return super()._choose_values(content, keys)
        self._check_pair(start_key is None, end_key is None, (start_key, end_key))
        starts, ends = content.getArray(str(start_key)), content.getArray(str(end_key))
        if not starts or len(starts) != len(ends):
            raise MetricComputationError(
                f"invalid metadata: {start_key} has {len(starts)} values and {end_key} has {len(ends)}: expected one "
                "of each for every call"
            )
        pairs = zip(starts, ends, strict=True)
        elapsed_s = [self._elapsed_s(str(start_key), start, str(end_key), end) for start, end in pairs]
        at = elapsed_s.index(max(elapsed_s))
        values = super()._choose_values(content, {name: key for name, key in keys.items() if name not in _TIMES})
        for name in _TIMES:
            if name in keys:
                values[name] = _reading(content, keys[name], at, len(starts))
        return values

    def _add_notes(self, measurement: Any, content: TaskMetadata, keys: Mapping[str, str | None]) -> None:
        key = keys.get(self._readings[0])
        if key is not None and (count := len(content.getArray(key))) > 1:
            measurement.notes["values"] = f"the maximum of {count} values"
        level, _, item = (key or "").rpartition(".")
        task = item.removesuffix("StartUtc").removesuffix("StartCpuTime")
        if found := content.level(level).scalars.get(f"{task}CutOff"):  # in a run: one of these may have lasted longer
            measurement.notes.update(cut_off=found, bound=LOWER)

    def _check_pair(self, no_start: bool, no_end: bool, found: tuple[str | None, str | None]) -> None:
        """Raise `MetricComputationError` for a start without an end, or an end without a start."""
        if no_start or no_end:
            present, missing = found[no_start], self._readings[0 if no_start else 1]
            raise MetricComputationError(
                f"invalid metadata: {present} without {self.getInputMetadataKeys(self.config).get(missing, missing)}"
            )

    @classmethod
    @abstractmethod
    def _elapsed_s(cls, start_key: str, start: Any, end_key: str, end: Any) -> float:
        """Return the seconds between two readings; raises `MetricComputationError` if one is not valid."""


class TimingMetricTask(_ElapsedMetricTask):
    """Compute the wall-clock time of one task, in seconds: from ``<target>StartUtc`` to ``<target>EndUtc``.

    Assumption: the clock was not set meanwhile. Limitation: the resolution of the keys is a microsecond.
    """

    _readings = ("StartTimestamp", "EndTimestamp")

    @classmethod
    def getInputMetadataKeys(cls, config: Any) -> dict[str, str]:
        """Return the keys of the times of day at start and end."""
        return {"StartTimestamp": f"{config.target}StartUtc", "EndTimestamp": f"{config.target}EndUtc"}

    @classmethod
    def _elapsed_s(cls, start_key: str, start: Any, end_key: str, end: Any) -> float:
        between = _moment(end_key, end) - _moment(start_key, start)  # exact: epoch seconds would lose microseconds
        return _not_negative(between.total_seconds(), start_key, start, end_key, end)


class CpuTimingMetricTask(_ElapsedMetricTask):
    """Compute the processor time of one task, in seconds: ``<target>EndCpuTime`` less ``<target>StartCpuTime``.

    Limitation: ``timeMethod`` reads the clock of the whole process, so the time includes other threads; records of a
    run have the time of the task's thread.
    """

    _readings = ("StartTime", "EndTime")

    @classmethod
    def getInputMetadataKeys(cls, config: Any) -> dict[str, str]:
        """Return the keys of the clock at start and end, and of the times of day."""
        items = {"StartTime": "StartCpuTime", "EndTime": "EndCpuTime"}
        stamps = {"StartTimestamp": "StartUtc", "EndTimestamp": "EndUtc"}
        return {name: f"{config.target}{item}" for name, item in (items | stamps).items()}

    @classmethod
    def _elapsed_s(cls, start_key: str, start: Any, end_key: str, end: Any) -> float:
        elapsed_s = _processor_s(end_key, end) - _processor_s(start_key, start)
        return _not_negative(elapsed_s, start_key, start, end_key, end)


def _not_negative(elapsed_s: float, start_key: str, start: object, end_key: str, end: object) -> float:
    if elapsed_s < 0:
        raise MetricComputationError(f"invalid metadata: {end_key} = {end!r} is before {start_key} = {start!r}")
    return elapsed_s


def _moment(key: str, value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise MetricComputationError(
            f"invalid metadata: {key} = {value!r} is not a time such as 2026-01-31T12:00:00.000000+00:00"
        ) from error


def _processor_s(key: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= _LARGEST_S:  # also for NaN
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a number of seconds")
    return float(value)


def _reading(metadata: TaskMetadata, key: str | None, at: int, count: int) -> Any:
    """Return reading `at` of `count`, None if there is not one for each."""
    values = [] if key is None else metadata.getArray(key)
    return values[at] if len(values) == count else None


def _stamp(values: Mapping[str, Any], name: str) -> str | None:
    """Return the time of day under `name`, None without one."""
    stamp = values.get(name)
    if stamp is not None and not isinstance(stamp, str):
        raise MetricComputationError(f"invalid metadata: {name} = {stamp!r} is not a time of day")
    return stamp
