"""A background thread that calls something at an interval, while it is wanted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

__all__ = ["Poller"]


class Poller:
    """Call `poll` every `interval_s` seconds between `resume` and `pause`; errors of `poll` that are OSError pass.

    The thread starts with the first `resume`, is a daemon, and does not survive a fork.
    """

    def __init__(self, poll: Callable[[], None], interval_s: float) -> None:
        self._poll = poll
        self._interval_s = interval_s
        self._wanted = threading.Event()
        self._unwanted = threading.Event()
        self._unwanted.set()
        self._thread: threading.Thread | None = None

    def resume(self) -> None:
        """Begin to call, if not already doing so."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="runmem-memory-poller", daemon=True)
            self._thread.start()
        self._unwanted.clear()
        self._wanted.set()

    def pause(self) -> None:
        """Stop calling until the next `resume`; a call under way is not waited for."""
        self._wanted.clear()
        self._unwanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            with contextlib.suppress(OSError, ValueError):  # the reading at the stop tells of it
                self._poll()
            self._unwanted.wait(self._interval_s)
