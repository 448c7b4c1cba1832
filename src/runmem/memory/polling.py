"""A background thread that calls a function at an interval, and can be paused."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

__all__ = ["Poller"]


class Poller:
    """Call `poll` every `interval_s` seconds between `resume` and `pause`, ignoring its OSError and ValueError.

    The thread starts with the first `resume`, is a daemon, and does not survive a fork.
    """

    def __init__(self, poll: Callable[[], None], interval_s: float) -> None:
        self._poll = poll
        self._interval_s = interval_s
        self._is_running = threading.Event()
        self._is_paused = threading.Event()
        self._is_paused.set()
        self._thread: threading.Thread | None = None

    def resume(self) -> None:
        """Start calling, if paused."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="runmem-memory-poller", daemon=True)
            self._thread.start()
        self._is_paused.clear()
        self._is_running.set()

    def pause(self) -> None:
        """Stop calling until the next `resume`, without waiting for a call in progress."""
        self._is_running.clear()
        self._is_paused.set()

    def _run(self) -> None:
        while True:
            self._is_running.wait()
            with contextlib.suppress(OSError, ValueError):  # the reading at the stop reports the error
                self._poll()
            self._is_paused.wait(self._interval_s)
