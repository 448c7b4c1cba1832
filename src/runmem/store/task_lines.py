"""The lines that a worker writes about its tasks, and what is read from them without parsing them.

A task has a line when it starts and one when it ends, each written when it happens, so that a task whose process was
killed has at least its first::

    {"event":"start","task_id":17,"start_s":...,"base_bytes":...,"module":...,"name":...,...}
    {"task_id":17,"start_s":...,"end_s":...,"peak_bytes":...,...}

The line of a task that ended is its whole record, so the master copies it to ``tasks.jsonl`` as it is: what it must
know meanwhile is which tasks run, and whether a task was tried before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from runmem.events import TaskRecord
from runmem.store.number_set import NumberSet
from runmem.store.records import record_from_line

__all__ = ["TaskLines", "Fed", "Begun"]

_LINE = re.compile(rb'\{(?:"event": ?"(start|end)", ?)?"task_id": ?(\d+)')  # with spaces: of an earlier version
_ATTEMPT = re.compile(rb'"attempt": ?1')
_MOST_DIGITS = 18  # of the number of a call; a line with more is damaged
_TIMES = re.compile(rb'"(?:start|end)_s": ?([\d.]+)')


class Begun(NamedTuple):
    """One attempt at a task that has begun, and its start line."""

    number: int
    attempt: int
    line: bytes

    def record(self) -> TaskRecord | None:
        """Return what is known of it; None if the line is damaged."""
        return record_from_line(self.line)


@dataclass(slots=True)
class Fed:
    """What the lines of a node say.

    Attributes
    ----------
    records : list of bytes
        Records of tasks that ended, a line each.
    begun : list of Begun
        Attempts that began.
    """

    records: list[bytes] = field(default_factory=list)
    begun: list[Begun] = field(default_factory=list)


class TaskLines:
    """Follows the task lines of all workers.

    Attributes
    ----------
    skipped : int
        Lines that were torn or not ours.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._running: dict[tuple[str, int], dict[int, Begun]] = {}
        self._begun = NumberSet()
        self._repeated: dict[int, int] = {}  # number of attempts at each call that has begun more than once
        self._ended = NumberSet()

    def feed(self, node: str, chunks: dict[int, bytes]) -> Fed:
        """Take whole lines of a node's workers, by process id, each in their order.

        A task that runs again starts on another worker, and both starts may be read at the same time: then the lines
        are taken in the order of time, so that attempts are numbered as they happened.
        """
        fed = Fed()
        lines = [(pid, line) for pid, data in chunks.items() for line in data.splitlines(keepends=True)]
        if len(chunks) > 1 and _starts_twice(lines):
            lines.sort(key=_time_of)
        for pid, line in lines:
            self._feed_line(self._running.setdefault((node, pid), {}), line, fed)
        return fed

    def _feed_line(self, running: dict[int, Begun], line: bytes, fed: Fed) -> None:
        if (found := _LINE.match(line)) is None:
            self.skipped += bool(line.strip())
            return
        if len(found[2]) > _MOST_DIGITS:
            self.skipped += 1
            return
        event, number = found[1], int(found[2])
        if event == b"start":
            attempt = 1
            if not self._begun.add(number):
                attempt = self._repeated[number] = self._attempts(number) + 1
            begun = running[number] = Begun(number, attempt, _numbered(line, attempt))
            fed.begun.append(begun)
        else:
            ended = running.pop(number, None)
            self._ended.add(number)
            fed.records.append(_numbered(line, ended.attempt if ended else max(1, self._attempts(number))))

    def _attempts(self, number: int) -> int:
        """Return the number of attempts at a call that have begun."""
        return self._repeated.get(number, int(number in self._begun))

    @property
    def running(self) -> int:
        """Number of tasks that started and of whose end nothing is known."""
        return sum(len(tasks) for tasks in self._running.values())

    @property
    def ended(self) -> int:
        """Number of tasks that ended at least once."""
        return len(self._ended)

    def has_ended(self, task_id: int) -> bool:
        """Tell whether a task ended at least once."""
        return task_id in self._ended

    def running_record(self, task_id: int) -> TaskRecord | None:
        """Return what is known of the attempt at a task that runs, the last to start; None if there is none."""
        begun = [tasks[task_id] for tasks in self._running.values() if task_id in tasks]
        return max(begun, key=lambda attempt: attempt.attempt).record() if begun else None

    def has_begun_again(self, record: TaskRecord) -> bool:
        """Tell whether there is a later attempt at the task of an unfinished record."""
        return record.attempt < self._attempts(record.task_id)

    def give_up(self, node: str | None = None, pid: int | None = None, also_repeated: bool = True) -> list[TaskRecord]:
        """Take out and return the unfinished records of a process that is gone, or (None) of all.

        Parameters
        ----------
        also_repeated : bool
            Whether those are returned too that had ended before: they ran again for a result that was lost.

        Notes
        -----
        Of a task that has begun again since, elsewhere, the earlier attempt is returned in any case.
        """
        gone = [key for key in self._running if node is None or key == (node, pid)]
        running = [begun for key in gone for begun in self._running.pop(key).values()]
        given_up = [
            begun
            for begun in running
            if also_repeated or begun.number not in self._ended or begun.attempt < self._attempts(begun.number)
        ]
        return [record for begun in given_up if (record := begun.record()) is not None]


def _numbered(line: bytes, attempt: int) -> bytes:
    """Return the line of an attempt; that of the first does not say so."""
    if attempt == 1:
        return line
    said = b'"attempt":%d' % attempt
    numbered, found = _ATTEMPT.subn(said, line, count=1)  # of an earlier version
    return numbered if found else _LINE.sub(lambda match: match[0] + b"," + said, line, count=1)


def _starts_twice(lines: list[tuple[int, bytes]]) -> bool:
    """Tell whether a task is said to start more than once."""
    found = [match[2] for _, line in lines if (match := _LINE.match(line)) is not None and match[1] == b"start"]
    return len(set(found)) < len(found)


def _time_of(line_of: tuple[int, bytes]) -> float:
    """Return when a line was written; 0, at once, for one without a time."""
    return max(map(float, _TIMES.findall(line_of[1])), default=0.0)
