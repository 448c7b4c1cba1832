"""What a worker of this machine does with the signal of Ctrl-C and with Dask's log; Dask imports it as a preload.

A terminal sends SIGINT to all that runs in it. It is for the program, which then ends the run in order. A worker that
takes it closes itself instead, as one that is not needed any more: Dask starts no other in its place, and with the last
one gone the program would wait for ever.

Dask keeps a worker's log off the terminal as long as the worker lives, and not while it closes.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from typing import Any

__all__ = ["dask_setup"]


def dask_setup(worker: Any) -> None:
    """Have SIGINT pass in this worker, and not in what its tasks start or fork; say nothing, to its end.

    Dask calls it in the main thread.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN, which would be inherited
    os.register_at_fork(after_in_child=_as_in_python)


def _as_in_python() -> None:
    with suppress(ValueError):  # forked by a thread: Python lets only the main one set signals
        signal.signal(signal.SIGINT, signal.default_int_handler)
