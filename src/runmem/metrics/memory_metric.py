"""Measure the memory of a task from its metadata: the counterpart of ``lsst.verify``'s MemoryMetricTask."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from runmem.metrics.metric_config import MetricConnections, TimeMethodMetricConfig
from runmem.metrics.metric_task import MetadataMetricTask, metadata_from
from runmem.pipe_base.errors import MetricComputationError
from runmem.pipe_base.metadata import Primitive, TaskMetadata
from runmem.pipe_base.struct import Struct
from runmem.reading import JsonObject
from runmem.verify.measurement import Measurement

__all__ = ["MemoryMetricConfig", "MemoryMetricConnections", "MemoryMetricTask"]

MemoryMetricConfig = TimeMethodMetricConfig
MemoryMetricConnections = MetricConnections

_LARGEST = 2**63
_ITEM = "EndMaxResidentSetSize"
_COUNTS = {
    "Executions": "executions",
    "PeaksMissing": "peaks_missing",
    "PeaksSampled": "peaks_sampled",
    "PeaksShared": "peaks_shared",
    "Failed": "failed",
    "Killed": "killed",
}


class MemoryMetricTask(MetadataMetricTask):
    """Compute the memory of one task, in bytes, from metadata with the keys of ``timeMethod``.

    Parameters
    ----------
    config : MemoryMetricConfig

    Raises
    ------
    SettingError
        If the configuration is not valid.

    Notes
    -----
    Assumption: the values are peaks. Those of runmem are peaks of the call; those of LSST's ``timeMethod`` are the
    highest of the process so far, whichever call caused them. Limitation: of several values the maximum is taken
    (``lsst.verify`` takes the last), and a sampled value is a lower bound; the notes have the number of each kind.
    """

    @classmethod
    def getInputMetadataKeys(cls, config: TimeMethodMetricConfig) -> dict[str, str]:
        """Return the key of the peak."""
        return {"EndMemory": f"{config.target}{_ITEM}"}

    def run(self, metadata: object) -> Struct:
        """Return ``Struct(measurement=...)``; see `MetadataMetricTask.run`.

        Raises
        ------
        NoWorkFound
            If no full name contains ``<target>EndMaxResidentSetSize``.
        MetricComputationError
            If several do, or a value or the version is malformed; with the key and the value.
        """
        content = metadata_from(metadata)
        fragment = self.getInputMetadataKeys(self.config)["EndMemory"]
        key = self.matching_key(content, fragment)
        if key is None:
            raise self.no_work(content, fragment)
        level, _, item = key.rpartition(".")
        beside = content.level(level)
        notes: JsonObject = {}
        factor = _unit_bytes(content, level, beside, notes)
        sizes = [_checked_size(key, value) for value in beside.getArray(item)]
        if not sizes:
            raise MetricComputationError(f"invalid metadata: {key} = [] has no value")
        largest = max(sizes)
        measurement = self.makeMeasurement({"EndMemory": int(largest * factor)})
        if measurement is not None:
            notes |= _notes(beside, item[: -len(_ITEM)], len(sizes), sizes.index(largest))
            measurement.notes |= notes
        return Struct(measurement=measurement)

    def makeMeasurement(self, values: Mapping[str, object]) -> Measurement | None:
        """Return the measurement of ``values["EndMemory"]``, in bytes."""
        return Measurement(self.config.metricName, values["EndMemory"], "byte")


def _checked_size(key: str, value: object) -> float:
    """Return a positive size; 0 would be a failed reading."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a number")
    if not 0 < value < _LARGEST:  # also false for NaN
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a size of memory")
    return value


def _unit_bytes(content: TaskMetadata, level: str, beside: TaskMetadata, notes: JsonObject) -> int:
    """Return the unit of the values in bytes, by the version of the metadata and the writer's platform."""
    version = beside.scalars.get("__version__")
    if (type(version) is int and version >= 1) or _checked_version(level, beside) >= 1:
        return 1
    platform = _inherited(content, level, "platform")
    if platform is None:
        platform = sys.platform
        notes["unit_assumed"] = f"metadata of version 0 do not have their platform; assumed {platform}"
    if not isinstance(platform, str) or not platform:
        raise MetricComputationError(f"invalid metadata: platform = {platform!r} is not the name of a platform")
    name = platform.lower()  # sys.platform has darwin, platform.system() has Darwin
    if name.startswith("darwin"):
        return 1
    if name.startswith(("sunos", "solaris")):
        return _page_bytes(_inherited(content, level, "pageSize"), notes)
    return 1024


def _checked_version(level: str, beside: TaskMetadata) -> float:
    """Return the version of the metadata, 0 if missing or empty."""
    key = f"{level}.__version__".lstrip(".")
    found = [version for version in _array(beside, "__version__") if version != ""]
    for version in found:
        if isinstance(version, bool) or not isinstance(version, (int, float)) or not version >= 0 or version % 1:
            raise MetricComputationError(f"invalid metadata: {key} = {version!r} is not a version number")
    if len(set(found)) > 1:
        raise MetricComputationError(f"invalid metadata: {key} = {found!r} is more than one version")
    return float(found[0]) if found else 0.0


def _page_bytes(page_size: object, notes: JsonObject) -> int:
    if isinstance(page_size, (int, float)) and page_size > 0 and page_size % 1 == 0 and not isinstance(page_size, bool):
        return int(page_size)
    if page_size is not None:
        raise MetricComputationError(f"invalid metadata: pageSize = {page_size!r} is not a number of bytes")
    import resource  # not on every platform

    notes["page_size_assumed"] = f"{resource.getpagesize()} byte, that of this machine"
    return resource.getpagesize()


def _inherited(content: TaskMetadata, level: str, item: str) -> object:
    """Return `item` from the metadata at `level`, or from the nearest level above that has it."""
    parts = level.split(".") if level else []
    for depth in range(len(parts), -1, -1):
        value: object = content.get(".".join([*parts[:depth], item]))
        if value is not None:
            return value
    return None


def _notes(beside: TaskMetadata, prefix: str, value_count: int, at: int) -> JsonObject:
    """Return notes on the method of the value, the largest of `value_count` values, at index `at`."""
    methods = [method for method in _array(beside, f"{prefix}PeakMethod") if isinstance(method, str)]
    of_run = _value(beside, f"{prefix}Executions") is not None
    estimator = "runmem task records" if of_run else "runmem timeMethod" if methods else "utils.timer.timeMethod"
    notes: JsonObject = {"estimator": estimator}
    if value_count > 1:
        notes["values"] = f"the maximum of {value_count} values"
    if methods:
        notes["method"] = methods[at] if len(methods) == value_count else methods[-1]
    if len(methods) == value_count > 1:  # one for each call, from timeMethod
        for note, word in (("peaks_sampled", "sampled"), ("peaks_shared", "shared"), ("contaminated",) * 2):
            if count := sum(word in method for method in methods):
                notes[note] = count
    if of_run:
        counts = {note: _value(beside, prefix + item) for item, note in _COUNTS.items()}
        notes |= {note: value for note, value in counts.items() if value is not None}
    return notes


def _array(metadata: TaskMetadata, key: str) -> list[Primitive]:
    """Return the values of `key`, which has no dot; empty without such a key."""
    if (values := metadata.arrays.get(key)) is not None:
        return values
    return [metadata[key]] if key in metadata else []


def _value(metadata: TaskMetadata, key: str) -> object:
    """Return the scalar `key` or the last element of the array, else None; `key` has no dot."""
    if key in metadata.scalars:
        return metadata.scalars[key]
    values = metadata.arrays.get(key)
    return values[-1] if values else None
