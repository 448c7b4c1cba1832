"""The lines that a worker writes about its tasks, and how they are followed without parsing.

A worker writes a line when a task starts and another when it ends, so that a task whose process was killed has at least
the first::

    {"event":"start","task_id":17,"start_s":...,"base_bytes":...,"module":...,"name":...,...}
    {"task_id":17,"start_s":...,"end_s":...,"peak_bytes":...,...}

The line at the end is the task's whole record, which the master copies to ``tasks.jsonl``. Meanwhile it only has to
know which tasks are running, and how often a task was attempted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from runmem.events import FIRST_NESTED, TaskRecord
from runmem.store.number_set import NumberSet
from runmem.store.records import record_from_line

__all__ = ["NewLines", "StartedAttempt", "TaskLines"]

_LINE = re.compile(rb'\{(?:"event": ?"(start|end)", ?)?"task_id": ?(\d+)')  # with spaces: of an earlier version
_ATTEMPT = re.compile(rb'"attempt": ?1')
_MOST_DIGITS = 18  # of the number of a call; a line with more is damaged
_TIMES = re.compile(rb'"(?:start|end)_s": ?([\d.]+)')


class StartedAttempt(NamedTuple):
    """One attempt at a task, with its start line, and whether another task of its process overlaps with it."""

    number: int
    attempt: int
    line: bytes
    shared: bool = False

    def record(self) -> TaskRecord | None:
        """Return its unfinished record; None if the line is damaged."""
        record = record_from_line(self.line)
        return replace(record, shared=True) if record is not None and self.shared else record


@dataclass(slots=True)
class NewLines:
    """The content of new lines of a node.

    Attributes
    ----------
    records : list of bytes
        Records of tasks that ended, one line for each.
    started : list of StartedAttempt
        Attempts that started.
    """

    records: list[bytes] = field(default_factory=list)
    started: list[StartedAttempt] = field(default_factory=list)


class TaskLines:
    """Follow the task lines of all workers.

    Attributes
    ----------
    skipped : int
        Number of torn and foreign lines.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._running: dict[tuple[str, int], dict[int, StartedAttempt]] = {}
        self._running_count = 0  # counting them takes too long where many workers are read one after the other
        self._begun = NumberSet()
        self._repeated: dict[int, int] = {}  # number of attempts at each call that has begun more than once
        self._ended = NumberSet()
        self._nested_ended = 0

    def feed(self, node: str, chunks: dict[int, bytes]) -> NewLines:
        """Process whole lines of a node's workers, by process id.

        A task that runs again starts on another worker, and both starts may be read at the same time: then the lines
        are sorted by time, so that attempts are numbered in the right order.
        """
        new = NewLines()
        lines = [(pid, line) for pid, data in chunks.items() for line in data.splitlines(keepends=True)]
        if len(chunks) > 1 and _starts_twice(lines):
            lines.sort(key=_time_of)
        for pid, line in lines:
            self._feed_line(self._running.setdefault((node, pid), {}), line, new)
        return new

    def _feed_line(self, running: dict[int, StartedAttempt], line: bytes, new: NewLines) -> None:
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
            self._running_count += number not in running
            running.pop(number, None)
            if running:  # a worker with several threads, or a task that waits for one that it has called
                running.update({other: begun._replace(shared=True) for other, begun in running.items()})
            started = running[number] = StartedAttempt(number, attempt, _numbered(line, attempt), bool(running))
            new.started.append(started)
        else:
            ended = running.pop(number, None)
            self._running_count -= ended is not None
            if self._ended.add(number) and number >= FIRST_NESTED:
                self._nested_ended += 1
            new.records.append(_numbered(line, ended.attempt if ended else max(1, self._attempts(number))))

    def _attempts(self, number: int) -> int:
        """Return the number of attempts at a call that have begun."""
        return self._repeated.get(number, int(number in self._begun))

    @property
    def running(self) -> int:
        """Number of tasks that started and have no known end."""
        return self._running_count

    @property
    def ended(self) -> int:
        """Number of calls of the program that ended at least once."""
        return len(self._ended) - self._nested_ended

    @property
    def nested_ended(self) -> int:
        """Number of calls of tasks that ended at least once."""
        return self._nested_ended

    def busy_processes(self, node: str) -> list[int]:
        """Return the processes of a node that run tasks, as far as known."""
        return [pid for (name, pid), tasks in self._running.items() if name == node and tasks]

    def is_busy(self, node: str, pid: int) -> bool:
        """Return True if a process runs tasks, as far as known."""
        return bool(self._running.get((node, pid)))

    def has_ended(self, task_id: int) -> bool:
        """Return True if a task ended at least once."""
        return task_id in self._ended

    def running_record(self, task_id: int) -> TaskRecord | None:
        """Return the unfinished record of the last running attempt at a task; None if it is not running."""
        begun = [tasks[task_id] for tasks in self._running.values() if task_id in tasks]
        return max(begun, key=lambda attempt: attempt.attempt).record() if begun else None

    def has_begun_again(self, record: TaskRecord) -> bool:
        """Return True if a later attempt at the task of an unfinished record has started."""
        return record.attempt < self._attempts(record.task_id)

    def pop_unfinished(
        self, node: str | None = None, pid: int | None = None, include_repeated: bool = True
    ) -> list[TaskRecord]:
        """Remove and return the unfinished records of an ended process, by default of all processes.

        Parameters
        ----------
        include_repeated : bool
            Whether to return tasks that ended before and were repeated for a lost result. An attempt that was followed
            by a later one is returned in any case.
        """
        gone = [key for key in self._running if node is None or key == (node, pid)]
        running = [each for key in gone for each in self._running.pop(key).values()]
        self._running_count -= len(running)
        unfinished = [
            each
            for each in running
            if include_repeated or each.number not in self._ended or each.attempt < self._attempts(each.number)
        ]
        return [record for each in unfinished if (record := each.record()) is not None]


def _numbered(line: bytes, attempt: int) -> bytes:
    """Return the line with the number of the attempt, which is omitted for the first."""
    if attempt == 1:
        return line
    field = b'"attempt":%d' % attempt
    numbered, found = _ATTEMPT.subn(field, line, count=1)  # of an earlier version
    return numbered if found else _LINE.sub(lambda match: match[0] + b"," + field, line, count=1)


def _starts_twice(lines: list[tuple[int, bytes]]) -> bool:
    """Return True if the lines start a task more than once."""
    found = [match[2] for _, line in lines if (match := _LINE.match(line)) is not None and match[1] == b"start"]
    return len(set(found)) < len(found)


def _time_of(line_of: tuple[int, bytes]) -> float:
    """Return the time of a line, 0 for a line without a time."""
    return max(map(float, _TIMES.findall(line_of[1])), default=0.0)
