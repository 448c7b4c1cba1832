"""Signals that ask a command to end are an exception in it, so that it can tidy up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "raise_on_signals"]


class Terminated(SystemExit):
    """A signal asks the program to end."""


@contextmanager
def raise_on_signals(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals, SIGTERM and SIGHUP if none is given, end what runs inside by Terminated(128 + signal).

    So runmem can tidy up.

    A program that has a handler of its own, or that ignores the signal (``nohup``), keeps that. Outside of the main
    thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise Terminated(128 + number)

    wanted = numbers or (signal.SIGTERM, signal.SIGHUP)
    signals = [number for number in wanted if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)]
    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)
