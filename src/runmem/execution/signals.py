"""The end of a run is not interrupted: measurements that are on their way, and traces that are being shown, arrive."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ignore_signals", "undisturbed"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GIVE_UP_S = 20.0
_SAID = b"runmem: the run is ending; what was measured is being brought in\n"


@contextmanager
def undisturbed(final: bool) -> Iterator[None]:
    """Hold back signals that ask to end. One that comes later than 20 s after the beginning ends the process at once.

    Parameters
    ----------
    final : bool
        Whether the process ends after this: signals are then held back until it does. Else those that came are
        delivered when the block ends, to the handlers that there were before.

    Notes
    -----
    Where signals cannot be handled, outside of the main thread, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    began_s = time.monotonic()
    came: list[int] = []

    def hold_back(number: int, frame: Any) -> None:
        if time.monotonic() - began_s > GIVE_UP_S:
            os._exit(128 + number)  # as after SIGKILL: what was collected is in the run directory
        if not came:
            os.write(2, _SAID)
        came.append(number)

    before = {number: signal.signal(number, hold_back) for number in SIGNALS
              if signal.getsignal(number) not in (signal.SIG_IGN, None)}  # fmt: skip
    try:
        yield
    finally:
        if not final:
            for number, handler in before.items():
                signal.signal(number, handler)
            for one in came[:1]:
                os.kill(os.getpid(), one)


def ignore_signals() -> None:
    """Ignore what asks to end, for a process that is ending: Python itself would end by the signal instead."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
