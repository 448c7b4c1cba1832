"""Calls that the program has cancelled: those that this worker process does not begin, and those that it ends.

::

    thread of a call                                     event loop of the worker
      running: the call is known ──────────────────────>   cancel_calls: note it as cancelled, and
        interruptible: the thread is in its function ──>   raise CallCancelled in that thread, at most once a call
        end of the function: withdraw what was not raised yet

`CallCancelled` is raised between two bytecode instructions of the thread. Both sides hold a lock, so it is asked for
only while the thread is in the function. As it is raised once at most, the end of the function is interrupted once at
most, too, and then tries again.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

__all__ = [
    "CallCancelled", "cancel_calls", "cancelled_calls", "interruptible", "is_interrupted", "raise_if_cancelled",
    "running", "uninterruptible",
]  # fmt: skip

cancelled_calls: defaultdict[str, set[int]] = defaultdict(set)
"""Numbers of cancelled calls, by the id of the run."""


class CallCancelled(BaseException):
    """Raised in the function of a call that the program has cancelled; ``except Exception`` does not catch it."""


_lock = threading.RLock()  # one for all calls, since each holds it for a moment only


class _Call:
    """A call that a thread of this process runs."""

    __slots__ = ("is_cancelled", "thread", "is_interrupted")

    def __init__(self) -> None:
        self.is_cancelled = False
        self.thread: int | None = None  # while that thread is in the function of the call
        self.is_interrupted = False  # whether it was, or will be, raised

    def cancel(self) -> None:
        with _lock:
            self.is_cancelled = True
            if self.thread is not None and not self.is_interrupted:
                self.is_interrupted = True
                _raise_in(self.thread, CallCancelled)

    def begin_function(self) -> None:
        with _lock:
            if self.is_cancelled:
                self.raise_if_cancelled()
            self.thread = threading.get_ident()

    def end_function(self) -> None:
        """End the time in which the call can be interrupted; called again if it is interrupted itself."""
        with _lock:
            self.thread = None
            if self.is_interrupted:
                _raise_no_more()

    def raise_if_cancelled(self) -> None:
        if self.is_cancelled:
            self.is_interrupted = True
            raise CallCancelled


_calls: dict[tuple[str, int], _Call] = {}


class _Thread(threading.local):
    call: _Call | None = None


_thread = _Thread()


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Raise an exception in another thread when it runs its next instruction; None: raise none after all."""
    value = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), value)


class _Withdrawn(BaseException):
    """Raised in place of an exception that is not to be raised any more."""


def _raise_no_more() -> None:
    """Withdraw what is still to be raised in this thread."""
    _raise_in(threading.get_ident(), None)
    if sys.version_info < (3, 12):  # else a function that is traced, as by @profile, would never return there
        with suppress(_Withdrawn):
            _raise_in(threading.get_ident(), _Withdrawn)


class running:
    """A block in which this thread runs a call, which can be cancelled. Not a `contextmanager`: each call has one."""

    __slots__ = ("_key", "_around")

    def __init__(self, run_id: str, task_id: int) -> None:
        self._key = run_id, task_id

    def __enter__(self) -> None:
        self._around = _thread.call
        _thread.call = _calls[self._key] = _Call()

    def __exit__(self, *raised: object) -> None:
        _thread.call = self._around
        _calls.pop(self._key, None)


class interruptible:
    """A block in which the call of this thread, if it has one, is interrupted as soon as it is cancelled.

    For code of the user: it may be interrupted anywhere.
    """

    __slots__ = ("_call",)

    def __enter__(self) -> None:
        self._call = _thread.call
        if self._call is not None:
            self._call.begin_function()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            _end_function(self._call)


class uninterruptible:
    """A block of runmem inside the function of a call, such as a wait for other calls, which must not be cut off.

    If the call is cancelled, `CallCancelled` is raised at the end of the block.
    """

    __slots__ = ("_call",)

    def __enter__(self) -> None:
        call = _thread.call
        self._call = call if call is not None and call.thread == threading.get_ident() else None
        if self._call is not None:
            _end_function(self._call)

    def __exit__(self, *raised: object) -> None:
        if self._call is not None:
            self._call.begin_function()


def _end_function(call: _Call) -> None:
    try:
        call.end_function()
    except CallCancelled:  # it came too late: the function has ended
        call.end_function()


def is_interrupted() -> bool:
    """Return True if the function of this thread's call was interrupted because the call is cancelled."""
    return _thread.call is not None and _thread.call.is_interrupted


def raise_if_cancelled() -> None:
    """Raise CallCancelled if this thread's call is cancelled: for code that must not be interrupted anywhere else."""
    if _thread.call is not None:
        _thread.call.raise_if_cancelled()


def cancel_calls(run_id: str, task_ids: Sequence[int], keys: Sequence[str], dask_worker: object) -> list[str]:
    """Begin none of these calls from now on, and end those that run; return the Dask tasks that this worker has begun.

    Runs in the worker's event loop, in which Dask tasks begin: none of them can begin between the two.
    """
    from runmem.dask_private import has_begun  # here: a process that runs calls for a worker needs no Dask

    cancelled_calls[run_id].update(task_ids)
    for task_id in task_ids:
        if (call := _calls.get((run_id, task_id))) is not None:
            call.cancel()
    return [key for key in keys if has_begun(dask_worker, key)]
