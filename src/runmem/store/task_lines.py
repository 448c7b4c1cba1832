"""The lines that a worker writes about its tasks, and what is read from them without parsing them.

A task has a line when it starts and one when it ends, each written when it happens, so that a task whose process was
killed has at least its first::

    {"event": "start", "task_id": 17, "attempt": 1, "start_s": ..., "base_bytes": ..., "module": ..., "name": ..., ...}
    {"event": "end", "task_id": 17, "next": 18, "attempt": 1, "start_s": ..., "end_s": ..., "peak_bytes": ..., ...}
    {"event": "end", "task_id": 18, "attempt": 1, "start_s": ..., "end_s": ..., "peak_bytes": ..., ...}

Short calls of one task follow each other at once. Then the line with which one ends says which is ``next``, and is also
the line with which that one starts: at this end, at these bytes. Should it not begin after all, a line says so::

    {"event": "unbegun", "task_id": 18}

The line of a task that ended is its whole record, so the master copies it to ``tasks.jsonl`` as it is: what it must
know meanwhile is which tasks run, and whether a task was tried before.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from runmem.events import TaskRecord
from runmem.store.line_writer import ATTEMPT, END, NEXT, START, UNBEGUN
from runmem.store.records import record_from_line

__all__ = ["TaskLines", "Fed", "Begun"]

_START_TIME = re.compile(rb'"start_s": ([\d.]+)')
_END_TIME = re.compile(rb'"end_s": ([\d.]+)')


class Begun(NamedTuple):
    """One attempt at a task that has begun; `line` is its start line, or that with which the task before it ended."""

    number: bytes
    attempt: int
    line: bytes

    def record(self) -> TaskRecord | None:
        """Return what is known of it; None if the line is damaged."""
        found = record_from_line(self.line)
        if found is None or self.line.startswith(START):
            return found
        if found.end_s is None or not self.number.isdigit():
            return None
        return TaskRecord(
            task_id=int(self.number), attempt=self.attempt, start_s=found.end_s, base_bytes=found.end_bytes,
            module=found.module, name=found.name, file=found.file, node=found.node, pid=found.pid, thread=found.thread,
            limit_bytes=found.limit_bytes,
        )  # fmt: skip


@dataclass(slots=True)
class Fed:
    """What the lines of a node say.

    Attributes
    ----------
    records : list of bytes
        Records of tasks that ended, one or more whole lines each.
    count : int
        How many records that are.
    begun : list of Begun
        Attempts that began, where these were asked for.
    """

    records: list[bytes] = field(default_factory=list)
    count: int = 0
    begun: list[Begun] = field(default_factory=list)


class _Chain(NamedTuple):
    """End lines of one process that stand one after the other, each but the last followed by the one in the next."""

    data: bytes
    numbers: list[bytes]  # of the tasks that ended
    following: bytes  # the one that begins with the last line; empty where none does


class TaskLines:
    """Follows the task lines of all workers.

    Parameters
    ----------
    tell_begun : bool
        Whether `feed` shall return the attempts that began.

    Attributes
    ----------
    skipped : int
        Lines that were torn or not ours.
    """

    def __init__(self, tell_begun: bool = False) -> None:
        self.skipped = 0
        self._tell_begun = tell_begun
        self._running: dict[tuple[str, int], dict[bytes, Begun]] = {}
        self._attempts: dict[bytes, int] = {}
        self._ended: set[bytes] = set()

    def feed(self, node: str, chunks: dict[int, bytes]) -> Fed:
        """Take whole lines of a node's workers, by process id, each in their order.

        A task that runs again starts on another worker, and both starts may be read at the same time: then the lines
        are merged by time, so that attempts are numbered as they happened.
        """
        fed = Fed()
        parts = {pid: _parts(data) for pid, data in chunks.items()}
        if len(chunks) > 1 and _in_several(parts):
            for pid, line in _by_time(chunks):
                self._feed_line(self._running.setdefault((node, pid), {}), line, fed)
            return fed
        for pid, pieces in parts.items():
            running = self._running.setdefault((node, pid), {})
            for piece in pieces:
                if isinstance(piece, bytes):
                    self._feed_line(running, piece, fed)
                elif not self._feed_chain(running, piece, fed):
                    for line in piece.data.splitlines(keepends=True):
                        self._feed_line(running, line, fed)
        return fed

    def _feed_line(self, running: dict[bytes, Begun], line: bytes, fed: Fed) -> None:
        if line.startswith(END):
            number, following = _tasks_in(line[len(END) :])
            begun = running.pop(number, None)
            attempt = begun.attempt if begun else self._attempts.get(number, 1)
            self._ended.add(number)
            fed.records.append(_numbered(line, attempt))
            fed.count += 1
            if following:
                self._begin(running, following, line, fed)
        elif line.startswith(START):
            self._begin(running, _tasks_in(line[len(START) :])[0], line, fed)
        elif line.startswith(UNBEGUN):
            if (begun := running.pop(line[len(UNBEGUN) : line.find(b"}")], None)) is not None:
                self._attempts[begun.number] -= 1
        else:
            self.skipped += bool(line.strip())

    def _begin(self, running: dict[bytes, Begun], number: bytes, line: bytes, fed: Fed) -> None:
        attempt = self._attempts[number] = self._attempts.get(number, 0) + 1
        begun = running[number] = Begun(number, attempt, _numbered(line, attempt) if line.startswith(START) else line)
        if self._tell_begun:
            fed.begun.append(begun)

    def _feed_chain(self, running: dict[bytes, Begun], chain: _Chain, fed: Fed) -> bool:
        """Take many lines at once, as those of short calls are; False, and nothing is taken, if they are not like that.

        Splitting is many times quicker than looking at each line, and there is one for every call.
        """
        data, numbers, following = chain
        begun = dict.fromkeys([*numbers[1:], following] if following else numbers[1:], 1)
        first = running.get(numbers[0])
        if self._tell_begun or first is None or first.attempt != 1 or not self._attempts.keys().isdisjoint(begun):
            return False
        del running[first.number]
        self._attempts.update(begun)
        self._ended.update(numbers)
        fed.records.append(data)
        fed.count += len(numbers)
        if following:
            running[following] = Begun(following, 1, data[data.rfind(b"\n", 0, -1) + 1 :])
        return True

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
        return b"%d" % task_id in self._ended

    def is_running(self, task_id: int) -> bool:
        """Tell whether an attempt at a task started of whose end nothing is known."""
        number = b"%d" % task_id
        return any(number in tasks for tasks in self._running.values())

    def running_record(self, task_id: int) -> TaskRecord | None:
        """Return what is known of the attempt at a task that runs, the last to start; None if there is none."""
        number = b"%d" % task_id
        begun = [tasks[number] for tasks in self._running.values() if number in tasks]
        return max(begun, key=lambda attempt: attempt.attempt).record() if begun else None

    def has_begun_again(self, record: TaskRecord) -> bool:
        """Tell whether there is a later attempt at the task of an unfinished record."""
        return record.attempt < self._attempts.get(b"%d" % record.task_id, 0)

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
            if also_repeated or begun.number not in self._ended or begun.attempt < self._attempts[begun.number]
        ]
        return [record for begun in given_up if (record := begun.record()) is not None]


def _numbered(line: bytes, attempt: int) -> bytes:
    return line if attempt == 1 else line.replace(ATTEMPT, b', "attempt": %d,' % attempt, 1)


def _tasks_in(rest: bytes) -> tuple[bytes, bytes]:
    """Return the task of a line, given what follows the line's beginning, and the one after it or nothing."""
    number, _, following = rest[: rest.find(ATTEMPT)].partition(NEXT)
    return number, following


def _parts(data: bytes) -> list[bytes | _Chain]:
    """Return the lines of a worker: end lines that follow each other together, others alone."""
    before, *after = data.split(START)
    if not all(piece.endswith(b"\n") for piece in (before or b"\n", *after)):
        return list(data.splitlines(keepends=True))  # torn
    parts = _end_lines(before)
    for piece in after:
        at = piece.find(b"\n") + 1
        parts.append(START + piece[:at])
        parts += _end_lines(piece[at:])
    return parts


def _end_lines(data: bytes) -> list[bytes | _Chain]:
    """Return end lines as a chain, if they are one; else one by one, as all other lines."""
    before, *ends = data.split(END)
    if not before and ends and data.count(b"\n") == len(ends):
        tasks = b", ".join([rest[: rest.find(ATTEMPT)] for rest in ends]).replace(NEXT, b", ").split(b", ")
        numbers = tasks[::2]  # of 17 followed by 18, 18 by 19 and 19 by none: 17, 18, 18, 19, 19
        if len(numbers) == len(ends) and tasks[1 : 2 * len(ends) - 1 : 2] == numbers[1:]:
            return [_Chain(data, numbers, tasks[-1] if len(tasks) == 2 * len(ends) else b"")]
    return list(data.splitlines(keepends=True))


def _in_several(parts: dict[int, list[bytes | _Chain]]) -> bool:
    """Tell whether a task is in the lines of more than one process."""
    numbers = [_tasks_of(pieces) for pieces in parts.values()]
    return len(set().union(*numbers)) < sum(len(found) for found in numbers)


def _tasks_of(pieces: list[bytes | _Chain]) -> set[bytes]:
    numbers: set[bytes] = set()
    for piece in pieces:
        if isinstance(piece, _Chain):
            numbers.update(piece.numbers)
            numbers.add(piece.following)
        elif piece.startswith(START):
            numbers.update(_tasks_in(piece[len(START) :]))
        elif piece.startswith(END):
            numbers.update(_tasks_in(piece[len(END) :]))
    return numbers - {b""}


def _by_time(chunks: dict[int, bytes]) -> Iterator[tuple[int, bytes]]:
    lines = [[(_time_of(line), pid, line) for line in data.splitlines(keepends=True)] for pid, data in chunks.items()]
    return ((pid, line) for _, pid, line in heapq.merge(*lines, key=lambda piece: piece[0]))


def _time_of(line: bytes) -> float:
    """Return when a line was written; 0, at once, for one without a time."""
    match = (_END_TIME if line.startswith(END) else _START_TIME).search(line)
    return float(match[1]) if match else 0.0
