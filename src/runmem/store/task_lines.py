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
_ATTEMPT = b'"attempt": 1,'
_START_LINE = _START + b'%d, "attempt": 1, "thread": %d, "start_s": %.6f, "base_bytes": %s, %s}\n'
_END_LINE = _END + (
    b'%d, "attempt": 1, "thread": %d, "start_s": %.6f, "end_s": %.6f, "cpu_s": %.6f, "status": %s, "exception": %s, '
    b'"method": %s, "shared": %s, "reason": %s, "base_bytes": %d, "peak_bytes": %d, "end_bytes": %d, '
    b'"increment_bytes": %d, "lifetime_peak_bytes": %d, %s}\n'
)
_END_LINE_WITH_GAPS = _END_LINE.replace(b'_bytes": %d', b'_bytes": %s')
_START_TIME = re.compile(rb'"start_s": ([\d.]+)')
_END_TIME = re.compile(rb'"end_s": ([\d.]+)')


class LineWriter:
    """Formats the lines of one worker process. (By hand: JSON of nine numbers costs more than measuring them.)"""

    def __init__(self, node: str, limit_bytes: int | None) -> None:
        self._node = node
        self._limit_bytes = limit_bytes
        self._tails: dict[tuple[str, str, str], bytes] = {}
        self._words: dict[tuple[str | bool | None, ...], tuple[bytes, ...]] = {}

    def start(self, task: Any, task_id: int, thread: int, start_s: float, base_bytes: int | None) -> bytes:
        """Return the line of a task that starts."""
        base = b"null" if base_bytes is None else b"%d" % base_bytes
        return _START_LINE % (task_id, thread, start_s, base, self._tail(task))

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
        """Return the line of a task that ended; `times` are start, end and processor seconds. Empties `values`."""
        take = values.pop
        base, peak, end = take("base_bytes", None), take("peak_bytes", None), take("end_bytes", None)
        increment = None if base is None or peak is None else peak - base
        numbers = base, peak, end, increment, take("lifetime_peak_bytes", None)
        words = status, exception, take("method", None), take("shared", False), take("reason", None)
        texts = self._words.get(words) or self._in_words(words)
        tail = self._tail(task)
        if values:  # of probes that others add
            tail += b"".join(b", %s: %s" % (json.dumps(k).encode(), json.dumps(v).encode()) for k, v in values.items())
        if None not in numbers:
            return _END_LINE % (task_id, thread, *times, *texts, *numbers, tail)
        written = [b"null" if number is None else b"%d" % number for number in numbers]
        return _END_LINE_WITH_GAPS % (task_id, thread, *times, *texts, *written, tail)

    def _in_words(self, words: tuple[str | bool | None, ...]) -> tuple[bytes, ...]:
        """Return what a line says in words, as JSON; the few combinations that occur again and again are kept."""
        texts = tuple(json.dumps(word).encode() for word in words)
        if len(self._words) < 256:
            self._words[words] = texts
        return texts

    def _tail(self, task: Any) -> bytes:
        """Return the part that is the same for all calls of a task here."""
        if task.data_id is not None:  # made for one call
            return self._tail_of(task) + b', "data_id": ' + json.dumps(task.data_id).encode()
        return self._tail_of(task)

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


def _number_in(line: bytes, begin: bytes) -> bytes:
    """Return the call's number: what stands between the beginning of a line and the next comma."""
    return line[len(begin) : line.find(b",", len(begin))]


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
            if line.startswith(_START):
                number = _number_in(line, _START)
                attempt = self._attempts.get(number, 0) + 1
                self._attempts[number] = attempt
                if attempt > 1:
                    line = line.replace(_ATTEMPT, b'"attempt": %d,' % attempt, 1)
                running[number] = attempt, line
                started.append(line)
            elif line.startswith(_END):
                number = _number_in(line, _END)
                self._ended.add(number)
                attempt, _ = running.pop(number, (self._attempts.get(number, 1), b""))
                ended.append(line if attempt == 1 else line.replace(_ATTEMPT, b'"attempt": %d,' % attempt, 1))
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
