"""What a worker writes about its tasks, one line at a time; `task_lines.py` says what stands in them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

__all__ = ["LineWriter", "line_of"]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_UNSAID = {
    **dict.fromkeys(("exception", "last_bytes", "reason", "data_id", "increment_unclear", "stack", "extra")),
    "shared": False, "attempt": 1,
}  # fmt: skip
_MEASURED = dict.fromkeys(
    ("method", "reason", "base_bytes", "peak_bytes", "end_bytes", "increment_bytes", "held_bytes",
     "lifetime_peak_bytes")
)  # fmt: skip


def line_of(values: dict[str, Any], same: bytes = b"}\n") -> bytes:
    """Return a line with `values`, of which those are taken out that have nothing to say; reading gives them back.

    Such is the exception of a task that raised none. A value that was to be had and was not stays, as ``null``. `same`
    is how the line ends.
    """
    for name, nothing in _UNSAID.items():
        if values.get(name, ...) is nothing:
            del values[name]
    return _encode(values)[:-1].encode() + same


class LineWriter:
    """Makes the lines of the worker process `pid`, which may use `limit_bytes`.

    Files below `folder`, the program's, are named from there on.
    """

    def __init__(self, node: str, limit_bytes: int | None, pid: int, folder: str = "") -> None:
        self._process = node, pid, limit_bytes
        self._folder = folder.rstrip("/") + "/" if folder else ""

    def start(self, task: Any, task_id: int, thread: int, start_s: float, base_bytes: int | None) -> bytes:
        """Return the line of a task that starts."""
        line = (
            f'{{"event":"start","task_id":{task_id},"thread":{thread},"start_s":{start_s:.6f},'
            f'"base_bytes":{"null" if base_bytes is None else base_bytes}'
        )
        return line.encode() + self._same_of(task)

    def end(
        self, task: Any, task_id: int, thread: int, times: tuple[float, float, float], status: str,
        exception: str | None, measured: dict[str, Any],
    ) -> bytes:  # fmt: skip
        """Return the line of a task that ended, which is its record.

        Parameters
        ----------
        times : (float, float, float)
            Start, end, processor seconds.
        measured : dict
            What was measured, and what others' probes add.
        """
        start_s, end_s, cpu_s = times
        head = (
            f'{{"task_id":{task_id},"thread":{thread},"start_s":{start_s:.6f},"end_s":{end_s:.6f},"cpu_s":{cpu_s:.6f},'
        )
        values = {"status": status, "exception": exception, **_MEASURED, **measured}
        base, peak = values["base_bytes"], values["peak_bytes"]
        if "increment_bytes" not in measured and base is not None and peak is not None:
            values["increment_bytes"] = max(0, peak - base)  # of another process, all its own
        return head.encode() + line_of(values, self._same_of(task))[1:]

    def _same_of(self, task: Any) -> bytes:
        file = task.file.removeprefix(self._folder)
        return _end_of_lines(task.module, task.name, file, *self._process, task.data_id)


@lru_cache(maxsize=256)
def _end_of_lines(
    module: str, name: str, file: str, node: str, pid: int, limit_bytes: int | None, data_id: str | None
) -> bytes:
    """Return how all lines of a task end here; to make that anew each time takes as long as to measure a call."""
    values = {
        "module": module, "name": name, "file": file, "node": node, "pid": pid, "limit_bytes": limit_bytes,
        "data_id": data_id,
    }  # fmt: skip
    return b"," + line_of(values)[1:]
