"""What is recorded of targets in forked processes: told by a process in few bytes, and written by the program.

Between two short targets everything that a process does takes several times as long as usual, as the processor has
forgotten it. The program formats the lines of many targets in one go, when it looks what has come.
"""

from __future__ import annotations

import marshal
import mmap
import pickle
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from runmem.store.append import LineAppender
from runmem.store.layout import Spool
from runmem.store.line_writer import LineWriter
from runmem.task_runner.isolation import Ended

__all__ = ["Begun", "Measured", "Slots", "TargetLines", "ToldLog", "packed_end", "packed_loss", "unpacked"]

_SLOT = struct.Struct("=dqQ")
_TARGET = struct.Struct("=Q")
_TARGET_AT = _SLOT.size - _TARGET.size
_NO_TARGET = -1
_RAISED_AT = Ended._fields.index("raised")
_UNKNOWN = -1
_UNMEASURED = 0.0


class Begun(NamedTuple):
    """A target, counted from 1, that has begun: when (seconds since the epoch), and at how many bytes if known."""

    target: int
    start_s: float
    base_bytes: int | None


class Measured(NamedTuple):
    """What a process tells of a target that has ended; see `LineWriter.end`."""

    times: tuple[float, float, float]
    status: str
    exception: str | None
    values: dict[str, Any]


def packed_end(index: int, ended: Ended, measured: Measured | None) -> bytes:
    """Return what the program is told of a target that has ended."""
    raised = None if ended.raised is None else pickle.dumps(ended.raised)
    told = (*ended[:_RAISED_AT], raised, *ended[_RAISED_AT + 1 :])
    return marshal.dumps((index, told, None if measured is None else tuple(measured)))


def packed_loss(place: str, lost: str) -> bytes:
    """Return what the program is told of what could not be measured."""
    return marshal.dumps((_NO_TARGET, place, lost))


def unpacked(message: bytes) -> tuple[int, Ended, Measured | None] | tuple[str, str]:
    """Return a target's index, how it ended and what was measured; or a place and what was lost there.

    Both sides are one interpreter, so it is `marshal` that packs: many times as quick as `pickle` between two targets.
    """
    index, told, measured = marshal.loads(message)
    if index == _NO_TARGET:
        return told, measured
    ended = Ended(*told)
    if ended.raised is not None:
        ended = ended._replace(raised=pickle.loads(ended.raised))
    return index, ended, None if measured is None else Measured(*measured)


class Slots:
    """Memory that the processes share with the program, and that outlives them: which target each is at."""

    def __init__(self, processes: int) -> None:
        self._memory = mmap.mmap(-1, processes * _SLOT.size)

    def begin(self, process: int, target: int, start_s: float | None, base_bytes: int | None = None) -> None:
        """Note that a process is at a target now, which the process itself does; None: it is not measured."""
        base = _UNKNOWN if base_bytes is None else base_bytes
        _SLOT.pack_into(self._memory, process * _SLOT.size, start_s or _UNMEASURED, base, 0)
        _TARGET.pack_into(self._memory, process * _SLOT.size + _TARGET_AT, target)

    def end(self, process: int) -> None:
        """Note that a process is at none."""
        _TARGET.pack_into(self._memory, process * _SLOT.size + _TARGET_AT, 0)

    def target_of(self, process: int) -> int:
        """Return the target that a process is at, 0 if at none."""
        return int(_TARGET.unpack_from(self._memory, process * _SLOT.size + _TARGET_AT)[0])

    def begun_by(self, process: int) -> Begun | None:
        """Return what a process is at; None if at none, if it is not measured, or if that changes just now."""
        start_s, base, target = _SLOT.unpack_from(self._memory, process * _SLOT.size)
        if not target or start_s == _UNMEASURED or target != self.target_of(process):
            return None
        return Begun(target, start_s, None if base == _UNKNOWN else base)


class ToldLog:
    """The log (see `TaskLog`) of a forked process: for the program to write.

    Attributes
    ----------
    measured : Measured or None
        Of the target that has ended last.
    """

    place = "the program's memory"
    lost_lines = 0

    def __init__(self, slots: Slots, process: int) -> None:
        self.measured: Measured | None = None
        self._slots = slots
        self._process = process

    def begins(self, task: Any, task_id: int, thread: int, start_s: float, base_bytes: int | None) -> None:
        """Note that a target begins."""
        self._slots.begin(self._process, task_id, start_s, base_bytes)

    def ends(
        self, task: Any, task_id: int, thread: int, times: tuple[float, float, float], status: str,
        exception: str | None, values: dict[str, Any], following: int | None = None,
    ) -> None:  # fmt: skip
        """Keep how it has ended."""
        self.measured = Measured(times, status, exception, values)

    def unbegun(self, task_id: int) -> None:
        """No target is ever said to follow."""

    def like(self, task: Any, thread: int, values: dict[str, Any]) -> Callable[..., object] | None:
        """None: there is nothing that would be quicker."""
        return None

    def close(self) -> None:
        """Nothing is to be closed."""


class TargetLines:
    """The lines of the targets of one forked process, `pid`, in the spool.

    Parameters
    ----------
    spool : Path
    node : str
    limit_bytes : int or None
        What the process may use.
    pid : int
    task_of : callable
        Takes the number of a target and returns the task that its record names.
    """

    def __init__(
        self, spool: Path, node: str, limit_bytes: int | None, pid: int, task_of: Callable[[int], Any]
    ) -> None:
        self._file = LineAppender(Spool(spool).tasks(pid))
        self._lines = LineWriter(node, limit_bytes, pid)
        self._task_of = task_of
        self._thread = threading.get_ident()  # that of the process is the one that was forked
        self._begun = 0
        self._pending: list[bytes] = []

    @property
    def lost(self) -> str | None:
        """What could not be written, if so."""
        if not self._file.lost_lines:
            return None
        return f"{self._file.lost_lines} lines about targets could not be written (disk full?)"

    def begun(self, begun: Begun) -> None:
        """Write that a target has begun, unless that was written."""
        if begun.target != self._begun:
            self._begun = begun.target
            task = self._task_of(begun.target)
            self._pending.append(self._lines.start(task, begun.target, self._thread, begun.start_s, begun.base_bytes))

    def ended(self, target: int, measured: Measured) -> None:
        """Write how a target has ended; of one that was short nothing else is written."""
        times, status, exception, values = measured
        line = self._lines.end(self._task_of(target), target, self._thread, times, status, exception, values)
        self._pending.append(line)

    def flush(self) -> None:
        """Let all of it be in the file."""
        if self._pending:
            self._file.write(b"".join(self._pending))
            self._pending.clear()

    def close(self) -> None:
        """Close the file."""
        self.flush()
        self._file.close()
