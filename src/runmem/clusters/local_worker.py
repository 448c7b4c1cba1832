"""Sets up SIGINT and Dask's log in a worker on this machine, as a preload of Dask.

A terminal sends SIGINT to all its processes. It is meant for the program, which then ends the run. A worker that
handles it would close itself as if it were not needed; Dask would not restart it, and without workers the program would
wait forever.

Dask keeps a worker's log off the terminal while the worker lives, but not while it closes.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress

__all__ = ["dask_setup", "ignore_signal"]


def dask_setup(worker: object) -> None:
    """Ignore SIGINT and silence Dask's log in this worker. Dask calls this in the main thread."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    ignore_signal(signal.SIGINT, signal.default_int_handler)


def ignore_signal(number: signal.Signals, default: Callable[..., object] | signal.Handlers) -> None:
    """Ignore a signal in this process, but not in its children, which get the default handler."""

    def restore() -> None:
        with suppress(ValueError):  # forked by another thread than the main one, which alone can set signals
            signal.signal(number, default)

    signal.signal(number, lambda number, frame: None)  # not SIG_IGN, which children would inherit
    os.register_at_fork(after_in_child=restore)
