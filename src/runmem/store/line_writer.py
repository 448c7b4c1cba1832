"""What a worker writes about its tasks, one line at a time; `task_lines.py` says what stands in them."""

from __future__ import annotations

import json
import os
from typing import Any

__all__ = ["LineWriter", "START", "END", "UNBEGUN", "NEXT", "ATTEMPT"]

START = b'{"event": "start", "task_id": '
END = b'{"event": "end", "task_id": '
UNBEGUN = b'{"event": "unbegun", "task_id": '
NEXT = b', "next": '
ATTEMPT = b', "attempt": 1,'

_START_LINE = START + b"%d" + ATTEMPT + b' "thread": %d, "start_s": %.6f, "base_bytes": %s, %s}\n'
_UNBEGUN_LINE = UNBEGUN + b"%d}\n"
_ENDED = ATTEMPT + b' "thread": %d, "start_s": %s, "end_s": %s, "cpu_s": %.6f, "status": %s, "exception": %s, %s'
_END_LINE = END + b"%d" + _ENDED
_END_AND_START_LINE = END + b"%d" + NEXT + b"%d" + _ENDED
_VALUES = (
    b'"method": %s, "shared": %s, "reason": %s, "base_bytes": %s, "peak_bytes": %s, "end_bytes": %s, '
    b'"increment_bytes": %s, "lifetime_peak_bytes": %s, %s}\n'
)


class LineWriter:
    """Formats the lines of one worker process. (By hand: JSON of nine numbers costs more than measuring them.)"""

    def __init__(self, node: str, limit_bytes: int | None) -> None:
        self._node = node
        self._limit_bytes = limit_bytes
        self._tails: dict[tuple[str, str, str], bytes] = {}
        self._newest_tail: tuple[Any, bytes] = None, b""
        self._newest: tuple[dict[str, Any] | None, bytes, bytes] = None, b"", b""
        self._newest_end: tuple[float, bytes] = 0.0, b""

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
            What was measured. The same again, the very object, gives the same text without making it: so it is with
            short calls whose process does not change, and `values` must not change either.
        following : int, optional
            The call of the same task that begins at this end, in this thread, with the bytes that `values` end with.
        """
        start_s, end_s, cpu_s = times
        known_s, start_text = self._newest_end
        if known_s != start_s:
            start_text = b"%.6f" % start_s
        end_text = b"%.6f" % end_s
        self._newest_end = end_s, end_text
        tail = self._tail(task)
        known_values, known_tail, text = self._newest
        if known_values is not values or known_tail is not tail:
            text = _values_text(values, tail)
            self._newest = values, tail, text
        said = _FINISHED if exception is None and status == "finished" else (_json(status), _json(exception))
        if following is None:
            return _END_LINE % (task_id, thread, start_text, end_text, cpu_s, *said, text)
        return _END_AND_START_LINE % (task_id, following, thread, start_text, end_text, cpu_s, *said, text)

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
                "module": task.module, "name": task.name, "file": task.file, "node": self._node, "pid": os.getpid(),
                "limit_bytes": self._limit_bytes,
            }  # fmt: skip
            tail = self._tails[key] = json.dumps(values).encode()[1:-1]
        return tail


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _number(value: int | None) -> bytes:
    return b"null" if value is None else b"%d" % value


_FINISHED = _json("finished"), _json(None)


def _values_text(values: dict[str, Any], tail: bytes) -> bytes:
    """Return the rest of a line: what was measured, what is the same for all calls, and what others' probes add."""
    others = dict(values)
    take = others.pop
    base, peak, end = take("base_bytes", None), take("peak_bytes", None), take("end_bytes", None)
    increment = None if base is None or peak is None else peak - base
    numbers = [_number(each) for each in (base, peak, end, increment, take("lifetime_peak_bytes", None))]
    words = [_json(each) for each in (take("method", None), take("shared", False), take("reason", None))]
    rest = b"".join(b", %s: %s" % (_json(key), _json(value)) for key, value in others.items())
    return _VALUES % (*words, *numbers, tail + rest)
