"""Convert records to and from lines of ``tasks.jsonl``."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, fields, replace
from operator import attrgetter
from sys import intern

import msgspec

from runmem.deaths import Death, growth_of
from runmem.events import TaskRecord
from runmem.reading import MAX_SIZE, MAX_TIME_S, JsonObject
from runmem.store.line_writer import line_of

__all__ = ["LOST_END", "record_to_line", "record_from_line", "killed"]

LOST_END = "it is not known how the task ended: the line that reports it was lost"

_INFINITY = float("inf")
# Types of each field; unlike in Python, `bool` is not a number here.
_TYPES = {
    field.name: {
        "int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "int | None": (int, type(None)),
        "float | None": (float, int, type(None)), "str | None": (str, type(None)),
    }.get(str(field.type), (dict, type(None)))
    for field in fields(TaskRecord)
}  # fmt: skip

_PLAIN = (int, float, str, bool, type(None))  # values of user probes

_REQUIRED = {field.name for field in fields(TaskRecord) if field.default is MISSING}


def record_to_line(record: TaskRecord) -> bytes:
    """Return `record` as a line of ``tasks.jsonl``."""
    return line_of(asdict(record))


_decoded = msgspec.json.Decoder(TaskRecord).decode
_may_be_negative = re.compile(rb"[:\s]-").search  # also matches some texts
_TEXTS = [
    (attrgetter(field.name), TaskRecord.__dict__[field.name].__set__)
    for field in fields(TaskRecord)
    if str in _TYPES[field.name]
]


def record_from_line(line: bytes) -> TaskRecord | None:
    """Return the record of a line of ``tasks.jsonl``, or None for a torn or foreign line."""
    if not line.isascii() or (b"-" in line and _may_be_negative(line)):
        return _record_from_unusual(line)
    try:
        record = _decoded(line)
    except (ValueError, RecursionError):
        return _record_from_unusual(line)
    if _is_out_of_range(record):
        return None
    for text_of, set_text in _TEXTS:  # the names of tasks, files and nodes repeat: only one of each is stored
        if (text := text_of(record)) is not None:
            set_text(record, intern(text))
    return record


_numbers_of = attrgetter(*(name for name, types in _TYPES.items() if int in types and name != "task_id"))


def _is_out_of_range(record: TaskRecord) -> bool:
    """Return True if a size or a time is too large to compute with or draw."""
    if record.death is not None and not record.death.is_in_range:
        return True
    if record.start_s >= MAX_TIME_S or (record.end_s or 0.0) >= MAX_TIME_S or record.task_id >= MAX_SIZE:
        return True
    return max(filter(None, _numbers_of(record)), default=0) >= 2 * MAX_SIZE  # thread ids are unsigned 64-bit numbers


def _record_from_unusual(line: bytes) -> TaskRecord | None:
    """Return the record of any line, at a ninth of the speed.

    `json` and the checks here define a valid record; the faster decoder accepts only such records.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # also UnicodeDecodeError
        return None
    return _record(values) if isinstance(values, dict) else None


def _record(values: JsonObject) -> TaskRecord | None:
    """Return a record, or None if a value does not have the type or the range of its field."""
    names = [name for name in values if name in _TYPES]  # others are derived, or of a later version
    if not set(names) >= _REQUIRED:
        return None
    known: JsonObject = {}
    for name in names:
        value, types = values[name], _TYPES[name]
        if type(value) not in types or (type(value) in (int, float) and not 0 <= value < _INFINITY):
            return None
        if name == "death":
            if value is not None and (value := Death.from_values(value)) is None:
                return None
        elif type(value) is dict and not all(type(each) in _PLAIN for each in value.values()):
            return None
        if type(value) is int and float in types:
            try:
                value = float(value)
            except OverflowError:
                return None
        known[name] = intern(value) if type(value) is str else value
    record = TaskRecord(**known)
    return None if _is_out_of_range(record) else record


def killed(
    record: TaskRecord,
    readings: tuple[list[float], list[int]],
    death: Death,
    status: str = "killed",
) -> TaskRecord:
    """Return the unfinished `record` with the status of a killed or cancelled task.

    Parameters
    ----------
    readings : (times, sizes)
        The sampler's readings of the worker's process: seconds since the epoch, bytes.
    death : Death
        The cause, as far as known. A size that it proves counts for the peak.
    status : str
        ``killed`` (its process died) or ``cancelled`` (the run ended first).

    Notes
    -----
    Assumption: the readings are of the record's own process. Limitation: the peak is the largest reading, so it misses
    a rise in the last sampling interval before the death; it is labelled ``sampled``.
    """
    inside = [(t, size) for t, size in zip(*readings, strict=True) if t >= record.start_s]
    sizes = [size for _, size in inside]
    known = [*sizes, *(size for size in (record.base_bytes, death.at_least_bytes) if size is not None)]
    peak = max(known, default=None)
    growth = growth_of([t for t, _ in inside], sizes)
    if growth is None:
        why = f"its growth is not known: {len(sizes)} readings were made while it ran"
        death = replace(death, missing=why if death.missing is None else f"{death.missing}; {why}")
    return replace(
        record,
        status=status,
        end_s=inside[-1][0] if inside else None,
        last_bytes=sizes[-1] if sizes else record.base_bytes,
        peak_bytes=peak,
        increment_bytes=None if peak is None or record.base_bytes is None else peak - record.base_bytes,
        increment_unclear="data of other tasks that the process released meanwhile is not known",
        method="sampled" if known else None,
        reason=death.words,
        death=replace(death, growth_bytes_per_s=growth) if status == "killed" else None,
    )
