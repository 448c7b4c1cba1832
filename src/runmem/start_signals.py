"""Signals that ask runmem to end before it has begun anything: it ends at once, with the code that a shell would tell.

While Python imports runmem, Ctrl-C would be a traceback of somebody else's import.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["exit_on_signals", "restore_python_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


def exit_on_signals() -> None:
    """Let signals end this process with 128 + the signal, but for those that are to be ignored, as with ``nohup``."""
    for number in _SIGNALS:
        if signal.getsignal(number) in _DEFAULTS:
            signal.signal(number, _end)


def restore_python_signals() -> None:
    """Take back what `exit_on_signals` has done."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, f"runmem: ended by {signal.Signals(number).name} before the program began\n".encode())
    finally:  # also where nobody hears it
        os._exit(128 + number)
