"""Records as lines of ``tasks.jsonl``, one a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields, replace
from sys import intern
from typing import Any

from runmem.events import TaskRecord

__all__ = ["record_to_line", "record_from_line", "killed"]

_INFINITY = float("inf")
# What may stand in each field; `bool` counts as no number here, unlike in Python.
_TYPES = {
    field.name: {
        "int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "int | None": (int, type(None)),
        "float | None": (float, int, type(None)), "str | None": (str, type(None)),
    }[str(field.type)]
    for field in fields(TaskRecord)
}  # fmt: skip

_REQUIRED = {field.name for field in fields(TaskRecord) if field.default is MISSING}


def record_to_line(record: TaskRecord) -> bytes:
    """Return `record` as a line of ``tasks.jsonl``; the derived increment is written too, for readers with `grep`."""
    return json.dumps({**asdict(record), "increment_bytes": record.increment_bytes}).encode() + b"\n"


def record_from_line(line: bytes) -> TaskRecord | None:
    """Return the record of a line of ``tasks.jsonl``, or None for a torn or foreign line."""
    try:
        values = json.loads(line)
    except ValueError:  # also UnicodeDecodeError
        return None
    return _record(values) if isinstance(values, dict) else None


def _record(values: dict[str, Any]) -> TaskRecord | None:
    """Return a record, or None if a value has not the type or the range of its field: the line is not ours."""
    shape = tuple(values), tuple(map(type, values.values()))
    take = _TAKERS.get(shape)
    if take is None:
        if len(_TAKERS) >= _MOST_SHAPES:  # foreign lines may be of any shape
            _TAKERS.clear()
        take = _TAKERS[shape] = _taker(values)
    return take(values)


_MOST_SHAPES = 256
_TAKERS: dict[Any, Callable[[dict[str, Any]], TaskRecord | None]] = {}
"""Names and types of a line's values to what makes a record of it: lines by the million have few shapes."""


def _taker(values: dict[str, Any]) -> Callable[[dict[str, Any]], TaskRecord | None]:
    """Return what makes records of lines with the names and types of `values`."""
    names = [name for name in values if name in _TYPES]  # others are derived, or of a later version
    is_ours = all(type(values[name]) in _TYPES[name] for name in names) and {*names, "attempt"} >= _REQUIRED
    if not is_ours:
        return lambda values: None
    numbers = [name for name in names if type(values[name]) in (int, float)]
    texts = [name for name in names if type(values[name]) is str]

    def take(values: dict[str, Any]) -> TaskRecord | None:
        for name in numbers:
            if not 0 <= values[name] < _INFINITY:
                return None
        known: dict[str, Any] = {"attempt": 1}
        for name in names:
            known[name] = values[name]
        for name in texts:  # the same few names of tasks, files and nodes: one of each is kept
            known[name] = intern(values[name])
        return TaskRecord(**known)

    return take


def killed(
    record: TaskRecord, readings: tuple[list[float], list[int]], reason: str, at_least_bytes: int | None = None
) -> TaskRecord:
    """Return the unfinished `record` as that of a killed task.

    Parameters
    ----------
    readings : (times, sizes)
        What the sampler read of the worker's process: seconds since the epoch, bytes.
    reason : str
        What is known of the cause.
    at_least_bytes : int, optional
        What the process held when it was ended, if the cause proves it: a later reading than the sampler's last.

    Notes
    -----
    Assumption: the readings are those of the record's own process. Limitation: the peak is the largest reading, so a
    rise in the last sampling interval before death is not in it; it is labelled ``sampled``.
    """
    inside = [(t, size) for t, size in zip(*readings, strict=True) if t >= record.start_s]
    sizes = [size for _, size in inside]
    if at_least_bytes is not None and at_least_bytes > max(sizes[-1:], default=0):
        sizes.append(at_least_bytes)
    base = [] if record.base_bytes is None else [record.base_bytes]
    return replace(
        record,
        status="killed",
        end_s=inside[-1][0] if inside else None,
        last_bytes=sizes[-1] if sizes else record.base_bytes,
        peak_bytes=max(sizes + base, default=None),
        method="sampled" if sizes or base else None,
        reason=reason,
    )
