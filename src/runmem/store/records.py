"""Task lines and records: what a worker writes to its spool, and how the lines become records again.

A worker writes two lines a task, each when it happens, so that a task whose process was killed has at least its first::

    {"event": "start", "task_id": 17, "start_s": ..., "thread": ..., "base_bytes": ..., "module": ..., "name": ..., ...}
    {"event": "end", "task_id": 17, "start_s": ..., "end_s": ..., "peak_bytes": ..., "status": "finished", ...}

The run directory's ``tasks.jsonl`` holds one whole record a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import Any

from runmem.events import TaskRecord

__all__ = ["START_FIELDS", "END_FIELDS", "RecordFold", "record_to_line", "record_from_line"]

START_FIELDS = ("task_id", "start_s", "thread", "base_bytes", "module", "name", "file", "node", "pid", "limit_bytes")
END_FIELDS = (
    "end_s", "cpu_s", "base_bytes", "peak_bytes", "end_bytes", "method", "shared", "status", "exception",
    "lifetime_peak_bytes", "reason",
)  # fmt: skip
_INFINITY = float("inf")
# What may stand in each field; `bool` counts as no number here, unlike in Python.
_TYPES = {
    field.name: {
        "int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "int | None": (int, type(None)),
        "float | None": (float, int, type(None)), "str | None": (str, type(None)),
    }[str(field.type)]
    for field in fields(TaskRecord)
}  # fmt: skip


def record_to_line(record: TaskRecord) -> bytes:
    """Return `record` as a line of ``tasks.jsonl``; the derived increment is written too, for readers with `grep`."""
    return json.dumps({**asdict(record), "increment_bytes": record.increment_bytes}).encode() + b"\n"


def record_from_line(line: bytes) -> TaskRecord | None:
    """Return the record of a line of ``tasks.jsonl``, or None for a torn or foreign line."""
    return _record(_mapping(line), {})


def _mapping(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:  # also UnicodeDecodeError
        return None
    return value if isinstance(value, dict) else None


def _record(start: dict[str, Any] | None, more: dict[str, Any]) -> TaskRecord | None:
    """Return a record, or None if a value has not the type or the range of its field: the line is not ours."""
    if start is None:
        return None
    known: dict[str, Any] = {"attempt": 1}
    for name, value in (start | more).items() if more else start.items():
        types = _TYPES.get(name)
        if types is None:
            continue  # of a later version, or derived
        kind = type(value)
        if kind not in types or (kind is int or kind is float) and not 0 <= value < _INFINITY:
            return None
        known[name] = value
    try:
        return TaskRecord(**known)
    except TypeError:  # a field is missing
        return None


class RecordFold:
    """Fold task lines, as they come from many workers, into records.

    Attributes
    ----------
    skipped : int
        Lines that were torn or not ours.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._running: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
        self._attempts: dict[int, int] = {}

    def feed(self, node: str, pid: int, lines: bytes) -> Iterator[tuple[str, TaskRecord]]:
        """Take whole lines of the file of one worker and yield ``("start" | "end", record)``.

        Lines of one worker must come in their order; workers may be mixed in any way.
        """
        running = self._running.setdefault((node, pid), {})
        for line in lines.splitlines():
            entry = _mapping(line)
            record = None
            if entry is not None and entry.get("event") == "start":
                record = self._start(running, entry)
            elif entry is not None and entry.get("event") == "end":
                record = self._end(running, entry)
            if record is None:
                self.skipped += bool(line.strip())
            else:
                yield str(entry["event"]) if entry else "", record

    def _start(self, running: dict[int, dict[str, Any]], entry: dict[str, Any]) -> TaskRecord | None:
        task_id = entry.get("task_id")
        if not isinstance(task_id, int):
            return None
        self._attempts[task_id] = entry["attempt"] = self._attempts.get(task_id, 0) + 1
        record = _record(entry, {})
        if record is not None:
            running[task_id] = entry
        return record

    def _end(self, running: dict[int, dict[str, Any]], entry: dict[str, Any]) -> TaskRecord | None:
        start = running.pop(entry.get("task_id", -1), None)
        return _record(start, {name: entry[name] for name in END_FIELDS if name in entry})

    def unfinished(self, node: str | None = None, pid: int | None = None) -> list[TaskRecord]:
        """Return the records that have a start and no end, of one process or (None) of all; they stay unfinished."""
        found = []
        for (its_node, its_pid), running in self._running.items():
            if (node is None or its_node == node) and (pid is None or its_pid == pid):
                found += [record for entry in running.values() if (record := _record(entry, {})) is not None]
        return found

    def give_up(self, node: str, pid: int) -> list[TaskRecord]:
        """Take out and return the unfinished records of a process that is gone."""
        found = self.unfinished(node, pid)
        self._running.pop((node, pid), None)
        return found


def killed(record: TaskRecord, readings: tuple[list[float], list[int]], reason: str) -> TaskRecord:
    """Return the unfinished `record` as that of a killed task.

    Parameters
    ----------
    readings : (times, sizes)
        What the sampler read of the worker's process: seconds since the epoch, bytes.
    reason : str
        What is known of the cause.

    Notes
    -----
    Assumption: the readings are those of the record's own process. Limitation: the peak is the largest reading, so a
    rise in the last sampling interval before death is not in it; it is labelled ``sampled``.
    """
    inside = [(t, size) for t, size in zip(*readings, strict=True) if t >= record.start_s]
    sizes = [size for _, size in inside]
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
