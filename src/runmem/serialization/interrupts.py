"""Distinguishes an interrupt of the program from an error that a value raised while it was packed or unpacked."""

from __future__ import annotations

import functools
import signal
import threading
from opcode import opmap
from types import CodeType, TracebackType

__all__ = ["is_interrupt"]

_RAISE = opmap["RAISE_VARARGS"]


def is_interrupt(error: BaseException) -> bool:
    """Return True if an error during the packing or unpacking of a value is meant for the whole program.

    That is Ctrl-C, and an exception of a signal handler of the program. Every other error, also a `SystemExit` or a
    `KeyboardInterrupt`, was raised by the class of the value, and is reported as an error of that value.

    Notes
    -----
    Python's own handler of Ctrl-C raises between any two instructions, and never at a `raise` statement.
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


def _code_of(handler: object) -> CodeType | None:
    """Return the code of a signal handler; None: it has none, such as `SIG_DFL`."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    own = vars(type(handler)).get("__call__")  # of an object that is called
    code = getattr(handler, "__code__", None) or getattr(own, "__code__", None)
    return code if isinstance(code, CodeType) else None
