"""Memory and time of one quantum, a unit of work of an LSST pipeline, from its metadata."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from runmem.metrics.memory_metric import checked_size, unit_bytes_at
from runmem.pipe_base.errors import MetricComputationError
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.peak_owner import owner_of_peak

__all__ = ["QuantumUsage", "quantum_usage"]

_QUANTUM = "quantum"
_SIZE = "MaxResidentSetSize"
_FIRST = ("prep", "init", "start")


class QuantumUsage(NamedTuple):
    """Memory and time of one quantum.

    Attributes
    ----------
    peak_bytes : int or None
        Highest resident set size; None if the metadata have none.
    owner : str or None
        Whose peak it is, see `owner_of_peak`; None if that is not known.
    wall_s : float or None
        Wall time from the beginning of the preparations to the end, in seconds; None if unknown.
    """

    peak_bytes: int | None
    owner: str | None
    wall_s: float | None


def quantum_usage(metadata: TaskMetadata) -> QuantumUsage:
    """Return memory and time of a quantum.

    They are those of the level ``quantum`` that LSST's executors write; metadata without it have those of their timed
    method with the highest peak.

    Raises
    ------
    MetricComputationError
        If a value is malformed; with its key.
    """
    level = metadata.metadata.get(_QUANTUM)
    if level is not None and f"end{_SIZE}" in level:
        begin = next((moment for moment in _FIRST if f"{moment}{_SIZE}" in level), "start")
        return _usage(metadata, _QUANTUM, level, begin, "end", "endPeakMethod")
    methods = [
        (path, level, name.removesuffix(f"End{_SIZE}"))
        for path, level in _levels(metadata)
        for name in level
        if name.endswith(f"End{_SIZE}")
    ]
    found = [
        _usage(metadata, path, level, f"{method}Start", f"{method}End", f"{method}PeakMethod")
        for path, level, method in methods
    ]
    return max(found, key=lambda usage: usage.peak_bytes or 0, default=QuantumUsage(None, None, None))


def _levels(metadata: TaskMetadata, path: str = "") -> list[tuple[str, TaskMetadata]]:
    found = [(path, metadata)]
    for name, below in metadata.metadata.items():
        found += _levels(below, f"{path}.{name}".lstrip("."))
    return found


def _usage(
    metadata: TaskMetadata, path: str, level: TaskMetadata, begin: str, end: str, method_key: str
) -> QuantumUsage:
    key = f"{path}.{end}{_SIZE}".lstrip(".")
    sizes = [checked_size(key, size) for size in level.getArray(f"{end}{_SIZE}")]
    if not sizes:
        return QuantumUsage(None, None, _wall_s(path, level, begin, end))
    at = sizes.index(max(sizes))
    start = _one_of(level, f"{begin}{_SIZE}", at, len(sizes))
    method = _one_of(level, method_key, at, len(sizes))
    owner = owner_of_peak(sizes[at], start, method if isinstance(method, str) else None)
    peak_bytes = int(sizes[at] * unit_bytes_at(metadata, path))
    return QuantumUsage(peak_bytes, owner, _wall_s(path, level, begin, end))


def _one_of(level: TaskMetadata, key: str, at: int, count: int) -> object:
    """Return value `at` of `key`, None if there is not one for each of `count` calls."""
    values = level.getArray(key) if key in level else []
    return values[at] if len(values) == count else None


def _wall_s(path: str, level: TaskMetadata, begin: str, end: str) -> float | None:
    """Return the sum of the times from begin to end, None without them."""
    keys = f"{begin}Utc", f"{end}Utc"
    if any(key not in level for key in keys):
        return None
    starts, ends = (level.getArray(key) for key in keys)
    if not starts or len(starts) != len(ends):
        return None
    elapsed_s = 0.0
    for start, stop in zip(starts, ends, strict=True):
        elapsed_s += (_moment(path, keys[1], stop) - _moment(path, keys[0], start)).total_seconds()
    if elapsed_s < 0:
        raise MetricComputationError(f"invalid metadata: {path}.{keys[1]} is before {keys[0]}: {ends}, {starts}")
    return elapsed_s


def _moment(path: str, key: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise MetricComputationError(f"invalid metadata: {path}.{key} = {value!r} is not a time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
