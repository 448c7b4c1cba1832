"""What a worker writes about its tasks, one line at a time; `task_lines.py` says what stands in them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

__all__ = ["LineWriter", "time_text", "START", "END", "UNBEGUN", "NEXT", "ATTEMPT"]

START = b'{"event": "start", "task_id": '
END = b'{"event": "end", "task_id": '
UNBEGUN = b'{"event": "unbegun", "task_id": '
NEXT = b', "next": '
ATTEMPT = b', "attempt": 1,'

_START_LINE = START + b"%d" + ATTEMPT + b' "thread": %d, "start_s": %.6f, "base_bytes": %s, %s}\n'
_UNBEGUN_LINE = UNBEGUN + b"%d}\n"
_ENDED = ATTEMPT + b' "thread": %d, "start_s": %.6f, "end_s": %.6f, "cpu_s": %.6f, "status": %s, "exception": %s, '
_FINISHED = (
    ATTEMPT + b' "thread": %d, "start_s": %%s, "end_s": %%s, "cpu_s": %%.6f, "status": "finished", "exception": null, '
)
_VALUES = (
    b'"method": %s, "shared": %s, "reason": %s, "base_bytes": %s, "peak_bytes": %s, "end_bytes": %s, '
    b'"increment_bytes": %s, "increment_unclear": %s, "held_bytes": %s, "lifetime_peak_bytes": %s, %s}\n'
)

_MEASURED = {
    "base_bytes", "peak_bytes", "end_bytes", "lifetime_peak_bytes", "method", "shared", "reason",
    "increment_bytes", "increment_unclear", "held_bytes",
}  # fmt: skip


def time_text(time_s: float) -> bytes:
    """Return how a time stands in a line."""
    return b"%.6f" % time_s


class LineWriter:
    """Formats the lines of the worker process `pid`, by hand: JSON of nine numbers costs more than measuring them."""

    def __init__(self, node: str, limit_bytes: int | None, pid: int) -> None:
        self._node = node
        self._pid = pid
        self._limit_bytes = limit_bytes
        self._tails: dict[tuple[str, str, str], bytes] = {}
        self._newest_tail: tuple[Any, bytes] = None, b""

    def start(self, task: Any, task_id: int, thread: int, start_s: float, base_bytes: int | None) -> bytes:
        """Return the line of a task that starts."""
        return _START_LINE % (task_id, thread, start_s, _number(base_bytes), self._tail(task))

    def end(
        self,
        task: Any,
        task_id: int,
        thread: int,
        times: tuple[float, float, float],
        status: str,
        exception: str | None,
        values: dict[str, Any],
        following: int | None = None,
    ) -> bytes:
        """Return the line of a task that ended.

        Parameters
        ----------
        times : (float, float, float)
            Start, end, processor seconds.
        values : dict
            What was measured.
        following : int, optional
            The call of the same task that begins at this end, in this thread, with the bytes that `values` end with.
        """
        start_s, end_s, cpu_s = times
        head = END + b"%d" % task_id + (b"" if following is None else NEXT + b"%d" % following)
        ended = _ENDED % (thread, start_s, end_s, cpu_s, _word(status), _word(exception))
        return head + ended + _values_text(values, self._tail(task))

    def like(self, task: Any, thread: int, values: dict[str, Any]) -> bytes:
        """Return what, with ``%``, is the line of a call that finished with these values and is followed by another.

        To put in: the call's number and the next one's, start and end as `time_text`, processor seconds.
        """
        text = _values_text(values, self._tail(task)).replace(b"%", b"%%")
        return END + b"%d" + NEXT + b"%d" + _FINISHED % thread + text

    def unbegun(self, task_id: int) -> bytes:
        """Return the line of a task that was said to follow and does not begin."""
        return _UNBEGUN_LINE % task_id

    def _tail(self, task: Any) -> bytes:
        """Return the part that is the same for all calls of a task here."""
        known, tail = self._newest_tail
        if known is not task:
            tail = self._tail_of(task)
            if task.data_id is not None:  # made for one call
                tail += b', "data_id": ' + _json(task.data_id)
            self._newest_tail = task, tail
        return tail

    def _tail_of(self, task: Any) -> bytes:
        key = task.module, task.name, task.file
        tail = self._tails.get(key)
        if tail is None:
            values = {
                "module": task.module, "name": task.name, "file": task.file, "node": self._node, "pid": self._pid,
                "limit_bytes": self._limit_bytes,
            }  # fmt: skip
            tail = self._tails[key] = json.dumps(values).encode()[1:-1]
        return tail


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


@lru_cache(maxsize=256, typed=True)
def _word(value: str | bool | None) -> bytes:
    """Return the JSON of what is one of a few: after a call that slept, whatever runs for the first time is slow."""
    return _json(value)


def _number(value: int | None) -> bytes:
    return b"null" if value is None else b"%d" % value


def _values_text(values: dict[str, Any], tail: bytes) -> bytes:
    """Return the rest of a line: what was measured, what is the same for all calls, and what others' probes add."""
    get = values.get
    base, peak, increment = get("base_bytes"), get("peak_bytes"), get("increment_bytes")
    if "increment_bytes" not in values and base is not None and peak is not None:  # of another process, all its own
        increment = max(0, peak - base)
    rest = b"".join(
        b", %s: %s" % (_word(key), _number(value) if type(value) is int else _json(value))
        for key, value in values.items()
        if key not in _MEASURED
    )
    return _VALUES % (
        _word(get("method")), _word(get("shared", False)), _word(get("reason")), _number(base), _number(peak),
        _number(get("end_bytes")), _number(increment), _word(get("increment_unclear")),
        _number(get("held_bytes")), _number(get("lifetime_peak_bytes")), tail + rest,
    )  # fmt: skip
