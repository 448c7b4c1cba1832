"""Tells an interrupt of the program from what the code of a value raised while it was packed or unpacked."""

from __future__ import annotations

import functools
import signal
import threading
from opcode import opmap
from types import CodeType, TracebackType
from typing import Any

__all__ = ["is_interrupt"]

_RAISE = opmap["RAISE_VARARGS"]


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error that came while a value was packed or unpacked is meant for the whole program.

    That is Ctrl-C, and what a signal handler of the program raised. Whatever else was raised then, also a `SystemExit`
    or a `KeyboardInterrupt`, is what the value's class did, and is told as an error of that value.

    Notes
    -----
    Python's own handler of Ctrl-C raises in the midst of whatever runs, and never where a `raise` stands.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        return False
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    trace: TracebackType | None = vars(BaseException)["__traceback__"].__get__(error)  # whatever its class says
    raised = False
    while trace is not None:
        code = trace.tb_frame.f_code
        if code in handlers:
            return True
        raised = code.co_code[trace.tb_lasti] == _RAISE
        trace = trace.tb_next
    return issubclass(type(error), KeyboardInterrupt) and not raised


def _code_of(handler: Any) -> CodeType | None:
    """Return the code of a signal handler; None: it has none, such as `SIG_DFL`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    own = vars(type(handler)).get("__call__")  # of an object that is called
    code = getattr(handler, "__code__", None) or getattr(own, "__code__", None)
    return code if isinstance(code, CodeType) else None
