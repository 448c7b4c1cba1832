"""Turns signals that end a command into an exception, so that it can clean up.

A process that the program forks has the handlers of before again: nothing is to be cleaned up there. Python forgets a
signal that reaches such a process before it has begun to run, if that has a handler; `multiprocessing.Pool.terminate`
would wait for it without end. So signals wait while a process is forked.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

__all__ = ["Terminated", "raise_on_signals"]


class Terminated(SystemExit):
    """A signal ends the program."""


@contextmanager
def raise_on_signals(*numbers: signal.Signals) -> Iterator[list[int]]:
    """Raise Terminated(128 + signal) in the block on a signal: by default SIGTERM and SIGHUP.

    A signal that the program handles or ignores (``nohup``) is left alone. Outside the main thread nothing changes.

    Yields
    ------
    received : list of int
        The signals so far. Python drops what is raised in a finalizer or in a callback of a weak reference, as in its
        import system, so a caller that must end looks here too.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated(128 + number)

    wanted = numbers or (signal.SIGTERM, signal.SIGHUP)
    signals = [number for number in wanted if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)]
    before = {number: signal.signal(number, end) for number in signals}
    replaced = _Replaced(end, before)
    _all_replaced.append(replaced)
    try:
        yield received
    finally:
        if replaced in _all_replaced:  # not in a process that was forked in the block
            _all_replaced.remove(replaced)
        replaced.restore()


class _Replaced(NamedTuple):
    """A handler of signals, and those that the signals had before."""

    handler: Callable[[int, FrameType | None], None]
    before: dict[signal.Signals, Any]

    def restore(self) -> None:
        """Set the handlers of before, except where the program has set another one."""
        for number, handler in self.before.items():
            if signal.getsignal(number) is self.handler:
                signal.signal(number, handler)


_all_replaced: list[_Replaced] = []
_forking = threading.local()  # `mask`: the signals that this thread blocked before


def _before_fork() -> None:
    signals = {number for replaced in _all_replaced for number in replaced.before}
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _after_fork_in_child() -> None:
    for replaced in reversed(_all_replaced):
        replaced.restore()
    _all_replaced.clear()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
