"""Handles signals during startup: exit at once with the code a shell would report.

By default Ctrl-C during the imports of runmem would print a traceback of an unrelated import.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["exit_on_signals", "restore_python_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


def exit_on_signals() -> None:
    """Exit with 128 + the signal on SIGINT, SIGTERM and SIGHUP, except ignored ones (``nohup``)."""
    for number in _SIGNALS:
        if signal.getsignal(number) in _DEFAULTS:
            signal.signal(number, _end)


def restore_python_signals() -> None:
    """Undo `exit_on_signals`."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, f"runmem: ended by {signal.Signals(number).name} before the program began\n".encode())
    finally:  # also if standard error is closed
        os._exit(128 + number)
