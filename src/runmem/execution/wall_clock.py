"""Limits the wall time of a run."""

from __future__ import annotations

import os
import signal
import threading

from runmem.standard_error import say

__all__ = ["WallClock"]


class WallClock:
    """Ends the program at the limit: by SIGTERM if a handler is set, else by SIGINT, as Ctrl-C does.

    Parameters
    ----------
    limit_s : float
        Seconds from now.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._process = os.getpid()
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        say(f"runmem: the run has reached its limit of {self._limit_s:g} s (--wall_clock_limit) and ends")
        is_handled = signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN, None)
        os.kill(self._process, signal.SIGTERM if is_handled else signal.SIGINT)

    def cancel(self) -> None:
        """Remove the limit."""
        self._timer.cancel()
