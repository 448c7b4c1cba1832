"""Make the lines that a worker writes about its tasks; `task_lines.py` describes them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Protocol

from runmem.reading import JsonObject

__all__ = ["LineWriter", "NamedTask", "fields_of_line", "line_of"]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_OF_DASK = ("key", "layer", "worker", "annotations", "input_bytes", "output_bytes")
_OF_CHILDREN = ("children_peak_bytes", "children_method", "children_command", "gpu_peak_bytes")
_EMPTY = (
    "exception",
    "last_bytes",
    "reason",
    "data_id",
    "increment_unclear",
    "stack",
    "parent_id",
    "extra",
    "death",
    "recorded_by",
    "argument_bytes",
    *_OF_DASK,
    *_OF_CHILDREN,
)
_OMITTED: JsonObject = {**dict.fromkeys(_EMPTY), "shared": False, "attempt": 1}
_SIZES = ("base_bytes", "peak_bytes", "end_bytes", "increment_bytes", "held_bytes", "lifetime_peak_bytes")
_MEASURED = dict.fromkeys(("method", "reason", *_SIZES))


def line_of(values: JsonObject, end: bytes = b"}\n") -> bytes:
    """Return a line with `values` that ends with `end`.

    Values equal to their default, such as the exception of a task that raised none, are omitted; reading restores them.
    A missing measurement is written as ``null``.
    """
    for name, default in _OMITTED.items():
        if values.get(name, ...) is default:
            del values[name]
    return _encode(values)[:-1].encode() + end


def fields_of_line(values: JsonObject) -> bytes:
    """Return fields for the lines of one task, for its attribute ``more``."""
    return b"," + line_of(values, b"")[1:]


class NamedTask(Protocol):
    """A task as its lines name it; it may also have ``more``: other fields of its record (`fields_of_line`)."""

    @property
    def module(self) -> str:
        """Name of the module."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def file(self) -> str:
        """Source file."""

    @property
    def data_id(self) -> str | None:
        """Data id, of a task that was made for one call."""


class LineWriter:
    """Make the lines of the worker process `pid`, which may use `limit_bytes`.

    Files in `folder`, that of the program, are named relative to it.
    """

    def __init__(self, node: str, limit_bytes: int | None, pid: int, folder: str = "") -> None:
        self._process = node, pid, limit_bytes
        self._folder = folder.rstrip("/") + "/" if folder else ""

    def start(
        self,
        task: NamedTask,
        task_id: int,
        thread: int,
        start_s: float,
        base_bytes: int | None,
        parent_id: int = 0,
        argument_bytes: dict[str, int] | None = None,
    ) -> bytes:
        """Return the line of a task that starts."""
        line = (
            f'{{"event":"start","task_id":{task_id},"thread":{thread},"start_s":{start_s:.6f},'
            f'"base_bytes":{"null" if base_bytes is None else base_bytes}'
        )
        if parent_id:
            line += f',"parent_id":{parent_id}'
        if argument_bytes:
            sizes = ",".join([f"{_quoted(name)}:{size}" for name, size in argument_bytes.items()])
            line += f',"argument_bytes":{{{sizes}}}'
        return line.encode() + self._line_end(task)

    def end(
        self,
        task: NamedTask,
        task_id: int,
        thread: int,
        times: tuple[float, float, float],
        status: str,
        exception: str | None,
        measured: JsonObject,
    ) -> bytes:
        """Return the line of a task that ended, which is its record.

        Parameters
        ----------
        times : (float, float, float)
            Start, end, processor seconds.
        measured : dict
            The measurements, and the fields of user probes.
        """
        start_s, end_s, cpu_s = times
        head = (
            f'{{"task_id":{task_id},"thread":{thread},"start_s":{start_s:.6f},"end_s":{end_s:.6f},"cpu_s":{cpu_s:.6f},'
        )
        values = {"status": status, "exception": exception, **_MEASURED, **measured}
        base, peak = values["base_bytes"], values["peak_bytes"]
        if "increment_bytes" not in measured and base is not None and peak is not None:
            values["increment_bytes"] = max(0, peak - base)  # a process that runs nothing else
        return head.encode() + line_of(values, self._line_end(task))[1:]

    def _line_end(self, task: NamedTask) -> bytes:
        file = task.file.removeprefix(self._folder)
        more: bytes = getattr(task, "more", b"")
        return more + _line_end(task.module, task.name, file, *self._process, task.data_id)


_quoted = lru_cache(maxsize=1024)(_encode)


@lru_cache(maxsize=256)
def _line_end(
    module: str, name: str, file: str, node: str, pid: int, limit_bytes: int | None, data_id: str | None
) -> bytes:
    """Return the end of all lines of a task; formatting it takes as long as measuring a call, so it is cached."""
    process = {"node": node, "pid": pid, "limit_bytes": limit_bytes, "data_id": data_id}
    return b"," + line_of({"module": module, "name": name, "file": file, **process})[1:]
