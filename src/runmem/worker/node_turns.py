"""Calls that run alone on their node: no other call of the program runs in any worker process there meanwhile.

::

    call             next.lock: shared for a moment ──> alone.lock: shared, until the bundle ends
    call, alone      next.lock: exclusive; now no other begins ──> alone.lock: exclusive, once those that run have ended

The locks are on two files in the spool, which all workers of a node share. The kernel takes a lock back when its
process dies. To the kernel a process is one holder, so the threads of a process count among themselves.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["NodeTurns"]

_POLL_S = 0.01
_LONGEST_HOLD_S = 600.0
_LET_PASS_S = 1.0


class NodeTurns:
    """The turns of the bundles in this process.

    Parameters
    ----------
    folder : Path
        That of the lock files.
    longest_hold_s : float
        A call that is to run alone keeps others from beginning for so long; then it lets some pass, and tries again. A
        call that runs may wait for one that has not begun, such as for a message on a stream.

    Raises
    ------
    OSError
        If the files cannot be made.
    """

    def __init__(self, folder: Path, longest_hold_s: float = _LONGEST_HOLD_S) -> None:
        # Files that nobody closes: they end with this object, so not before the last block.
        self._next: IO[bytes] = open(folder / "next.lock", "a+b")  # noqa: SIM115
        self._alone: IO[bytes] = open(folder / "alone.lock", "a+b")  # noqa: SIM115
        self._longest_hold_s = longest_hold_s
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: int | None = None  # the thread of this process that is next to run alone
        self._is_alone = False

    @contextmanager
    def turn(self, alone: bool, is_wanted: Callable[[], bool]) -> Iterator[None]:
        """Return a block that begins when it may: with `alone`, when nothing else runs on the node.

        `is_wanted` is asked while it waits; if it returns False, the block begins at once.
        """
        end = self._wait(self._try_alone if alone else self._try_beside, is_wanted, alone)
        try:
            yield
        finally:
            if end is not None:
                end()

    def _wait(
        self, begins: Callable[[], bool], is_wanted: Callable[[], bool], alone: bool
    ) -> Callable[[], None] | None:
        """Wait until a block may begin; return what ends it, or None if nobody wants it any more."""
        since_s = time.monotonic()
        while not begins():
            if not is_wanted():
                if alone:
                    self._give_up_next()
                return None
            time.sleep(_POLL_S)
            if alone and time.monotonic() - since_s > self._longest_hold_s:
                self._give_up_next()
                time.sleep(_LET_PASS_S)
                since_s = time.monotonic()
        return self._end_alone if alone else self._end_beside

    def _try_beside(self) -> bool:
        with self._lock:
            if self._waiting is not None or self._is_alone or not _locked(self._next, fcntl.LOCK_SH):
                return False
            _unlock(self._next)
            if not self._running and not _locked(self._alone, fcntl.LOCK_SH):
                return False
            self._running += 1
            return True

    def _end_beside(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                _unlock(self._alone)

    def _try_alone(self) -> bool:
        with self._lock:
            me = threading.get_ident()
            if self._is_alone or self._waiting not in (None, me):
                return False
            if self._waiting is None:
                if not _locked(self._next, fcntl.LOCK_EX):
                    return False
                self._waiting = me
            if self._running or not _locked(self._alone, fcntl.LOCK_EX):
                return False
            self._is_alone, self._waiting = True, None
            _unlock(self._next)
            return True

    def _end_alone(self) -> None:
        with self._lock:
            self._is_alone = False
            _unlock(self._alone)

    def _give_up_next(self) -> None:
        """Let others begin, if this thread has kept them from it."""
        with self._lock:
            if self._waiting == threading.get_ident():
                self._waiting = None
                _unlock(self._next)


def _locked(file: IO[bytes], kind: int) -> bool:
    """Try to lock a file, at once; return True if it is locked."""
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of them, the system chooses
        return False
    return True


def _unlock(file: IO[bytes]) -> None:
    fcntl.lockf(file, fcntl.LOCK_UN)
