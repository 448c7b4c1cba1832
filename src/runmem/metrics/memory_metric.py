"""Measure the memory of a task from its metadata: the counterpart of ``lsst.verify``'s MemoryMetricTask."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from runmem.metrics.metric_config import MetricConnections, TimeMethodMetricConfig
from runmem.metrics.metric_task import MetadataMetricTask, names_with
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.pipe_base.metadata import Primitive, TaskMetadata
from runmem.pipe_base.peak_owner import CONTAMINATED, OWN, SHARED, owners_of_peaks
from runmem.reading import JsonObject
from runmem.verify.bounds import LOWER
from runmem.verify.measurement import Measurement

__all__ = ["MemoryMetricConfig", "MemoryMetricConnections", "MemoryMetricTask", "checked_size", "unit_bytes_at"]

MemoryMetricConfig = TimeMethodMetricConfig
MemoryMetricConnections = MetricConnections

_LARGEST = 2**63
_VALUE, _VERSION = "EndMemory", "MetadataVersion"  # names of inputs, as in lsst.verify
_ITEM, _START_ITEM, _VERSION_ITEM = "EndMaxResidentSetSize", "StartMaxResidentSetSize", "__version__"
_SPECIAL = (_VALUE, _VERSION)
_OF_PLATFORM = {"Platform": "platform", "PageSize": "pageSize"}
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
    def getInputMetadataKeys(cls, config: Any) -> dict[str, str]:
        """Return the keys of the peak and of the version, which gives its unit."""
        level, dot, _ = (config.target or "").rpartition(".")
        return {_VALUE: f"{config.target}{_ITEM}", _VERSION: f"{level}{dot}{_VERSION_ITEM}"}

    def makeMeasurement(self, values: Mapping[str, Any]) -> Measurement | None:
        """Return the measurement of ``values["EndMemory"]``, in bytes.

        Parameters
        ----------
        values : mapping
            ``EndMemory``: the peak, None if there is none. ``MetadataVersion``: before version 1 (and without it, or
            with None) the unit depends on the platform; from then on it is the byte. ``Platform`` and ``PageSize``, of
            the writer: `run` adds them if the version is below 1 and the metadata have them; default: of this machine.

        Raises
        ------
        NoWorkFound
            If there is no peak.
        MetricComputationError
            If a value is malformed.
        """
        given = values.get(_VALUE)
        if given is None:
            raise NoWorkFound(f"the metadata have no {self.getInputMetadataKeys(self.config)[_VALUE]}")
        notes: JsonObject = {"estimator": "utils.timer.timeMethod"}
        size = checked_size(_VALUE, given)
        if isinstance(given, str):
            notes["number_given_as_text"] = given
        size_bytes = size * _unit_bytes(values, notes)
        return Measurement(self.config.metricName, int(size_bytes), "byte", notes)

    def _find_keys(self, content: TaskMetadata, fragments: Mapping[str, str]) -> dict[str, str | None]:
        keys = super()._find_keys(content, {name: key for name, key in fragments.items() if name != _VERSION})
        if _VERSION in fragments:
            keys[_VERSION] = self._version_key(content, fragments[_VERSION], keys.get(_VALUE))
        return keys

    def _version_key(self, content: TaskMetadata, fragment: str, value_key: str | None) -> str | None:
        """Return the key of the version: beside the value (if it is there), unless a subclass looks for another one."""
        if value_key is None:
            found = names_with(fragment, content)
            return found[0] if len(found) == 1 else None
        beside = _beside(value_key, _VERSION_ITEM)
        return beside if fragment in beside else self.matching_key(content, fragment)

    def _choose_values(self, content: TaskMetadata, keys: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the largest peak, the version of the metadata, and what the unit depends on before version 1."""
        values = super()._choose_values(content, {name: key for name, key in keys.items() if name not in _SPECIAL})
        values |= dict.fromkeys(name for name in _SPECIAL if name in keys)
        key, version_key = keys.get(_VALUE), keys.get(_VERSION)
        if key is None:
            if _VALUE in keys and names_with(f"{self.config.target}PeaksMissing", content):
                raise NoWorkFound(f"no execution of {self.config.target} has a measured peak; was memory profiling on?")
            if version_key is not None:
                values[_VERSION] = content[version_key]
            return values
        level, _, item = key.rpartition(".")
        beside = content.level(level)
        given = beside.getArray(item)
        sizes = [checked_size(key, size) for size in given]
        if not sizes:
            raise MetricComputationError(f"invalid metadata: {key} = [] has no value")
        values[_VALUE] = given[0] if len(given) == 1 else given[sizes.index(max(sizes))]
        version = beside.scalars.get(_VERSION_ITEM) if version_key in (None, _beside(key, _VERSION_ITEM)) else None
        if type(version) is not int or version < 1:  # not the usual case
            version = _version_in(content, version_key or _beside(key, _VERSION_ITEM))
        values[_VERSION] = version
        if not version:
            values |= _of_platform(content, level)
        return values

    def _add_notes(self, measurement: Any, content: TaskMetadata, keys: Mapping[str, str | None]) -> None:
        if (key := keys.get(_VALUE)) is not None:
            level, _, item = key.rpartition(".")
            beside = content.level(level)
            sizes = [checked_size(key, size) for size in beside.getArray(item)]
            measurement.notes.update(_notes(beside, item.removesuffix(_ITEM), sizes))


def _beside(key: str, item: str) -> str:
    """Return the full name of `item` at the level of `key`."""
    level, dot, _ = key.rpartition(".")
    return f"{level}{dot}{item}"


def checked_size(key: str, value: object) -> float:
    """Return a positive size; 0 would be a failed reading. A text that `int` takes is a number, as in lsst.verify."""
    if isinstance(value, str):
        with suppress(ValueError):  # refused below
            value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a number")
    if not 0 < value < _LARGEST:  # also false for NaN
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a size of memory")
    return value


def unit_bytes_at(content: TaskMetadata, level: str) -> int:
    """Return the unit of the sizes at `level` in bytes. Raises `MetricComputationError` for a malformed version."""
    version = _version_in(content, f"{level}.{_VERSION_ITEM}".lstrip("."))
    return 1 if version else _unit_bytes({_VERSION: version, **_of_platform(content, level)}, {})


def _of_platform(content: TaskMetadata, level: str) -> JsonObject:
    """Return platform and page size of the writer, as far as the metadata have them, for units before version 1."""
    found = {name: _inherited(content, level, item) for name, item in _OF_PLATFORM.items()}
    return {name: value for name, value in found.items() if value is not None}


def _unit_bytes(values: Mapping[str, Any], notes: JsonObject) -> int:
    """Return the unit of the peak in bytes, by the version of the metadata and the writer's platform."""
    version = values.get(_VERSION)
    if (type(version) is int and version >= 1) or _checked_version(_VERSION, [] if version is None else [version]) >= 1:
        return 1
    platform = values.get("Platform")
    if platform is None:
        platform = sys.platform
        notes["unit_assumed"] = f"metadata of version 0 do not have their platform; assumed {platform}"
    if not isinstance(platform, str) or not platform:
        raise MetricComputationError(f"invalid metadata: platform = {platform!r} is not the name of a platform")
    name = platform.lower()  # sys.platform has darwin, platform.system() has Darwin
    if name.startswith("darwin"):
        return 1
    if name.startswith(("sunos", "solaris")):
        return _page_bytes(values.get("PageSize"), notes)
    return 1024


def _version_in(content: TaskMetadata, key: str) -> int | None:
    """Return the version of the metadata under `key`, None if missing."""
    return _checked_version(key, content.getArray(key)) if key in content else None


def _checked_version(key: str, versions: Sequence[Any]) -> int:
    found = [version for version in versions if version != ""]
    for version in found:
        if isinstance(version, bool) or not isinstance(version, (int, float)) or not version >= 0 or version % 1:
            raise MetricComputationError(f"invalid metadata: {key} = {version!r} is not a version number")
    if len(set(found)) > 1:
        raise MetricComputationError(f"invalid metadata: {key} = {found!r} is more than one version")
    return int(found[0]) if found else 0


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


def _notes(beside: TaskMetadata, prefix: str, sizes: Sequence[float]) -> JsonObject:
    """Return notes on the method of the value, the largest of `sizes`."""
    methods = [method for method in _array(beside, f"{prefix}PeakMethod") if isinstance(method, str)]
    of_run = _value(beside, f"{prefix}Executions") is not None
    estimator = "runmem task records" if of_run else "runmem timeMethod" if methods else "utils.timer.timeMethod"
    notes: JsonObject = {"estimator": estimator}
    count, at = len(sizes), sizes.index(max(sizes))
    if count > 1:
        notes["values"] = f"the maximum of {count} values"
    if methods:
        notes["method"] = methods[at] if len(methods) == count else methods[-1]
    if len(methods) == count > 1:  # one for each call, from timeMethod
        for note, word in (("peaks_sampled", "sampled"), ("peaks_shared", "shared")):
            if found := sum(word in method for method in methods):
                notes[note] = found
    owners = owners_of_peaks(sizes, _array(beside, f"{prefix}{_START_ITEM}"), [] if of_run else methods)
    if of_run:
        counts = {note: _value(beside, prefix + item) for item, note in _COUNTS.items()}
        notes |= {note: value for note, value in counts.items() if value is not None}
        notes["peak"] = SHARED if SHARED in str(notes.get("method")) else OWN
        if notes.get("peaks_sampled") or notes.get("peaks_missing"):  # one of these may have had more
            notes["bound"] = LOWER
    elif owners[at] is not None:
        notes["peak"] = owners[at]
    if count > 1 and (found := owners.count(CONTAMINATED)):
        notes["contaminated"] = found
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
