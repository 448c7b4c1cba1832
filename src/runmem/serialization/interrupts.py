"""Tells an interrupt of the program from what the code of a value raised while it was packed or unpacked."""

from __future__ import annotations

import signal
import threading

from runmem.serialization.error_parts import field_of

__all__ = ["is_interrupt"]


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error that came while a value was packed or unpacked is meant for the whole program.

    That is Ctrl-C, and what a signal handler of the program raised. Whatever else was raised then, also a `SystemExit`,
    is what the value's class did, and is told as an error of that value.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        return False
    if issubclass(type(error), KeyboardInterrupt):
        return True
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()} - {None}
    trace = field_of(error, "__traceback__")
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
