"""Turns signals that end a command into an exception, so that it can clean up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
    try:
        yield received
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)
