"""The lines that a worker writes about its tasks, and what is read from them without parsing them.

Two lines a task, each written when it happens, so that a task whose process was killed has at least its first::

    {"event": "start", "task_id": 17, "attempt": 1, "start_s": ..., "base_bytes": ..., "module": ..., "name": ..., ...}
    {"event": "end", "task_id": 17, "attempt": 1, "start_s": ..., "end_s": ..., "peak_bytes": ..., ...}

The line of a task that ended is its whole record, so the master copies it to ``tasks.jsonl`` as it is: what it must
know meanwhile is which tasks run, and whether a task was tried before.
"""

from __future__ import annotations

import heapq
import json
import os
import re
from typing import Any

from runmem.events import TaskRecord
from runmem.store.records import record_from_line

__all__ = ["LineWriter", "TaskLines", "in_order"]

_START = b'{"event": "start", "task_id": '
_END = b'{"event": "end", "task_id": '
_AFTER_START, _AFTER_END = len(_START), len(_END)
_ATTEMPT = b'"attempt": 1,'
_UNSEEN = 0, b""  # the end of a task whose start was not read
_START_LINE = _START + b'%d, "attempt": 1, "thread": %d, "start_s": %.6f, "base_bytes": %s, %s}\n'
_END_LINE = _END + (
    b'%d, "attempt": 1, "thread": %d, "start_s": %.6f, "end_s": %.6f, "cpu_s": %.6f, "status": %s, "exception": %s, %s'
)
_VALUES = (
    b'"method": %s, "shared": %s, "reason": %s, "base_bytes": %s, "peak_bytes": %s, "end_bytes": %s, '
    b'"increment_bytes": %s, "lifetime_peak_bytes": %s, %s}\n'
)
_START_TIME = re.compile(rb'"start_s": ([\d.]+)')
_END_TIME = re.compile(rb'"end_s": ([\d.]+)')


class LineWriter:
    """Formats the lines of one worker process. (By hand: JSON of nine numbers costs more than measuring them.)"""

    def __init__(self, node: str, limit_bytes: int | None) -> None:
        self._node = node
        self._limit_bytes = limit_bytes
        self._tails: dict[tuple[str, str, str], bytes] = {}
        self._newest_tail: tuple[Any, bytes] = None, b""
        self._newest: tuple[dict[str, Any] | None, bytes, bytes] = None, b"", b""

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
    ) -> bytes:
        """Return the line of a task that ended; `times` are start, end and processor seconds.

        The same `values` again, the very object, give the same text without making it: so it is with short calls whose
        process does not change, and `values` must not change either.
        """
        tail = self._tail(task)
        known_values, known_tail, text = self._newest
        if known_values is not values or known_tail is not tail:
            text = _values_text(values, tail)
            self._newest = values, tail, text
        said = _FINISHED if exception is None and status == "finished" else (_json(status), _json(exception))
        return _END_LINE % (task_id, thread, *times, *said, text)

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


def in_order(chunks: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """Return what several workers wrote, by process id, in the order in which it is to be fed to `TaskLines`.

    A task that runs again starts on another worker, and both starts may be read at the same time: then the lines are
    merged by time, so that attempts are numbered as they happened. Else each chunk is one piece.
    """
    if len(chunks) > 1:
        # Splitting is many times quicker than a regular expression, and this is done for every line.
        numbers = [{piece[: piece.find(b",")] for piece in data.split(_START)[1:]} for data in chunks.values()]
        if len(set().union(*numbers)) < sum(len(found) for found in numbers):
            pieces = [
                [(_time_of(line), pid, line) for line in data.splitlines(keepends=True)] for pid, data in chunks.items()
            ]
            return [(pid, line) for _, pid, line in heapq.merge(*pieces, key=lambda piece: piece[0])]
    return list(chunks.items())


def _time_of(line: bytes) -> float:
    """Return when a line was written; 0 for a line that is not ours."""
    match = (_END_TIME if line.startswith(_END) else _START_TIME).search(line)
    return float(match[1]) if match else 0.0


class TaskLines:
    """Follows the task lines of all workers.

    Attributes
    ----------
    skipped : int
        Lines that were torn or not ours.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._running: dict[tuple[str, int], dict[bytes, tuple[int, bytes]]] = {}
        self._attempts: dict[bytes, int] = {}
        self._ended: set[bytes] = set()

    def feed(self, node: str, pid: int, lines: bytes) -> tuple[list[bytes], list[bytes]]:
        """Take whole lines of one worker's file, in their order; return the start lines and the records in them."""
        running = self._running.setdefault((node, pid), {})
        started: list[bytes] = []
        ended: list[bytes] = []
        for line in lines.splitlines(keepends=True):
            if line.startswith(_END):
                number = line[_AFTER_END : line.find(b",", _AFTER_END)]
                attempt = running.pop(number, _UNSEEN)[0] or self._attempts.get(number, 1)
                self._ended.add(number)
                ended.append(line if attempt == 1 else line.replace(_ATTEMPT, b'"attempt": %d,' % attempt, 1))
            elif line.startswith(_START):
                number = line[_AFTER_START : line.find(b",", _AFTER_START)]
                attempt = self._attempts.get(number, 0) + 1
                self._attempts[number] = attempt
                if attempt > 1:
                    line = line.replace(_ATTEMPT, b'"attempt": %d,' % attempt, 1)
                running[number] = attempt, line
                started.append(line)
            else:
                self.skipped += bool(line.strip())
        return started, ended

    @property
    def running(self) -> int:
        """Number of tasks that started and of whose end nothing is known."""
        return sum(len(tasks) for tasks in self._running.values())

    def give_up(self, node: str | None = None, pid: int | None = None, also_repeated: bool = True) -> list[TaskRecord]:
        """Take out and return the unfinished records of a process that is gone, or (None) of all.

        Parameters
        ----------
        also_repeated : bool
            Whether those are returned too that had ended before: they ran again for a result that was lost.
        """
        gone = [key for key in self._running if node is None or key == (node, pid)]
        running = [item for key in gone for item in self._running.pop(key).items()]
        lines = [line for number, (_, line) in running if also_repeated or number not in self._ended]
        return [record for line in lines if (record := record_from_line(line)) is not None]
