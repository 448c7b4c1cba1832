"""Delays signals during steps that they must not cut off: slow imports, and the end of a run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["delayed_signals", "ignore_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GIVE_UP_S = 20.0
_UNHANDLED = (signal.SIG_IGN, None)


@contextmanager
def delayed_signals(final: bool = False, note: str | None = None) -> Iterator[None]:
    """Delay signals that ask the process to end. One that arrives after more than 20 s ends it at once.

    Parameters
    ----------
    final : bool
        Whether the process ends after the block: signals are then delayed until it does. Otherwise the first is
        delivered when the block ends, to the handler that was set before.
    note : str, optional
        Printed at the first signal.

    Notes
    -----
    Outside of the main thread, which alone handles signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    began_s = time.monotonic()
    arrived: list[int] = []

    def delay(number: int, frame: object) -> None:
        if time.monotonic() - began_s > GIVE_UP_S:
            os._exit(128 + number)  # as after SIGKILL: what was collected is in the run directory
        if note is not None and not arrived:
            os.write(2, f"runmem: {note}\n".encode())
        arrived.append(number)

    before = {number: signal.signal(number, delay) for number in SIGNALS if signal.getsignal(number) not in _UNHANDLED}
    try:
        yield
    finally:
        if not final:
            for number, handler in before.items():
                signal.signal(number, handler)
            for one in arrived[:1]:
                os.kill(os.getpid(), one)


def ignore_signals() -> None:
    """Ignore signals that ask the process to end, because it is ending: Python itself would end by the signal."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
