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
from contextlib import suppress

__all__ = ["dask_setup"]


def dask_setup(worker: object) -> None:
    """Ignore SIGINT in this worker, but not in processes started by its tasks, and silence Dask's log.

    Dask calls this in the main thread.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN, which children would inherit
    os.register_at_fork(after_in_child=_restore_sigint)


def _restore_sigint() -> None:
    with suppress(ValueError):  # forked by another thread than the main one, which alone can set signals
        signal.signal(signal.SIGINT, signal.default_int_handler)
