"""How long a call may take: a worker writes which of its calls have a limit, for the watchdog of its node.

The file of a worker process has a slot for each of its threads. Writing to it is no system call, and reading it needs
no answer of the process, which may be stopped or busy in compiled code.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["STACK_SIGNAL", "LimitedCall", "NoTimeLimits", "TimeLimits", "give_up", "limited_calls", "time_is_up"]

STACK_SIGNAL: int = signal.SIGRTMAX - 5 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
"""With it a process that runs a limited call writes the stacks of its threads."""

_SLOT = struct.Struct("=qQdd")
_SLOTS = 256
_NUMBER = struct.Struct("=q")
_LONGEST_END_WAIT_S = 10.0


class LimitedCall(NamedTuple):
    """A call that runs and may take so long.

    Attributes
    ----------
    task_id : int
    thread : int
        Identifier of the thread that runs it.
    limit_s : float
        Seconds that it may take.
    deadline_s : float
        When its time is up, on the monotonic clock.
    """

    task_id: int
    thread: int
    limit_s: float
    deadline_s: float


def _at_once(step: Callable[[], None]) -> None:
    step()


class TimeLimits:
    """The limits of the calls that this process runs.

    Parameters
    ----------
    calls, stacks : Path
        The file of the slots, and the one that stacks are written to. Both are made with the first limited call.
    later : callable
        Calls a function in the thread that delivers results; default: at once. A task that stops its own process runs
        on for a moment; if its result is stopped too, it has not ended.
    """

    def __init__(self, calls: Path, stacks: Path, later: Callable[[Callable[[], None]], object] = _at_once) -> None:
        self._paths = calls, stacks
        self._later = later
        self._lock = threading.Lock()
        self._slots: mmap.mmap | None = None
        self._slot = threading.local()
        self._free = [number * _SLOT.size for number in reversed(range(_SLOTS))]

    def limited(self, task_id: int, limit_s: float) -> AbstractContextManager[None]:
        """Return a block in which a call may take so many seconds.

        Raises
        ------
        OSError
            If that cannot be written.
        """
        return self._block(*self._own_slot(), task_id, limit_s)

    @contextmanager
    def _block(self, slots: mmap.mmap, at: int, task_id: int, limit_s: float) -> Iterator[None]:
        _SLOT.pack_into(slots, at, 0, threading.get_ident(), limit_s, time.monotonic() + limit_s)
        _NUMBER.pack_into(slots, at, task_id)  # last: from here on the slot counts
        try:
            yield
        finally:
            waited_s = 0.0
            while _NUMBER.unpack_from(slots, at)[0] < 0 and waited_s < _LONGEST_END_WAIT_S:
                time.sleep(0.1)  # the time was up, and has been reported: after that the call does not end otherwise
                waited_s += 0.1
            call = LimitedCall(task_id, threading.get_ident(), limit_s, time.monotonic() + limit_s)
            _SLOT.pack_into(slots, at, *call)
            self._later(lambda: _clear(slots, at, call))

    def _own_slot(self) -> tuple[mmap.mmap, int]:
        with self._lock:
            if self._slots is None:
                self._slots = self._opened()
            if not hasattr(self._slot, "own"):
                if not self._free:
                    raise OSError(f"{_SLOTS} threads have run limited calls and have not ended")
                self._slot.own = _SlotOfThread(self._free.pop(), self._free)
            return self._slots, self._slot.own.at

    def _opened(self) -> mmap.mmap:
        calls, stacks = self._paths
        size = _SLOTS * _SLOT.size
        descriptor = os.open(calls, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, bytes(size))  # not a hole: on a full disk writing to that would end the process
            slots = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._stacks = open(stacks, "w")  # noqa: SIM115  # as long as the process lives
        faulthandler.register(STACK_SIGNAL, self._stacks, all_threads=True)
        return slots


class _SlotOfThread:
    """A slot that is free again when its thread has ended: threads come and go where tasks wait for tasks."""

    def __init__(self, at: int, free: list[int]) -> None:
        self.at = at
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.at)


class NoTimeLimits(TimeLimits):
    """Those of a Dask worker without a nanny: nobody could end it and start another."""

    def limited(self, task_id: int, limit_s: float) -> AbstractContextManager[None]:
        """Raise OSError."""
        raise OSError("the worker has no nanny that could end it (dask worker --no-nanny)")


def _clear(slots: mmap.mmap, at: int, call: LimitedCall) -> None:
    """Mark a call as ended, if its thread runs no other one by now."""
    if LimitedCall(*_SLOT.unpack_from(slots, at)) == call:
        _NUMBER.pack_into(slots, at, 0)


def give_up(path: Path, call: LimitedCall) -> bool:
    """Mark a call as one whose time was up: it does not end by itself any more. False: it has ended."""
    with open(path, "r+b") as file:
        data = file.read()
        for at in range(0, len(data), _SLOT.size):
            if LimitedCall(*_SLOT.unpack_from(data, at)) == call:
                os.pwrite(file.fileno(), _NUMBER.pack(-call.task_id), at)
                return True
    return False


def limited_calls(path: Path) -> list[LimitedCall]:
    """Return the limited calls that a process runs, given the file of its slots; none if there is no such file."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    whole = len(data) - len(data) % _SLOT.size
    return [LimitedCall(*values) for values in _SLOT.iter_unpack(data[:whole]) if values[0] > 0]


def time_is_up(limit_s: float) -> str:
    """Return the reason of the end of a call that exceeded its time limit."""
    return f"exceeded its time limit of {limit_s:g} s"
