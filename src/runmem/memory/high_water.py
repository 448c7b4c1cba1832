"""Read the kernel's high-water mark of the process into windows, and reset it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from runmem.memory.other_threads import OtherThreads
from runmem.memory.process import Readings, own_process
from runmem.memory.window import Window

__all__ = ["HighWater", "UNREADABLE"]

UNREADABLE = (OSError, ValueError, IndexError)
"""The errors of a reading."""

_POLL_INTERVAL_S = 0.01
_PROOF_SLACK_BYTES = 4 * 1024**2
_RECENT_FAULTS = 16


class HighWater:
    """Read the mark and the resident set size of the process into the open windows.

    Parameters
    ----------
    readings : Readings, optional
        Source of the values; default this process.
    """

    def __init__(self, readings: Readings | None = None) -> None:
        self._given = readings
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler or a finaliser may run a profiled function
        self._readings: Readings | None = self._given
        self._open: list[Window] = []
        self._lifetime_peak: int | None = None
        self._mark: int | None = None
        self._resident = 0
        self._faults: int | None = None
        self._last_reading = object()  # a new one for every reading
        self._proved = False
        self._reason: str | None = None
        self._poller: Poller | None = None
        self._stored_bytes = 0  # for other tasks
        self._other_threads = OtherThreads()
        self._other_faults: tuple[int | None, int] = None, 0  # page faults of the process and of the other threads

    def watch_this_thread(self) -> None:
        """Count the page faults of the calling thread, which works for other tasks than those in windows."""
        with self._lock:
            self._other_threads.add_current()
            self._other_faults = None, self._other_faults[1]

    def _read(self) -> tuple[int | None, int]:
        """Read the mark and the size, and update every open window and the lifetime peak.

        Without a page fault since the last reading the size has not risen, so the mark, the slowest value, is not read
        again.
        """
        self._last_reading = object()
        if self._readings is None:
            self._readings = own_process()
        faults = self._readings.page_faults()
        if faults is not None and faults == self._faults:
            mark, resident = self._mark, self._readings.resident_bytes()
        else:
            mark, resident = self._readings.high_water_and_resident()
            self._faults = faults
        self._resident = resident
        for window in self._open:
            window._fold(mark, resident, self._stored_bytes)
        if mark is not None and (self._lifetime_peak is None or max(mark, resident) > self._lifetime_peak):
            self._lifetime_peak = max(mark, resident)  # without a page fault the mark is an earlier one
        self._mark = mark
        return mark, resident

    def _reset(self, mark: int | None) -> None:
        """Reset the mark; if that fails or has no effect, set `_reason`: peaks are sampled from here on."""
        if mark is None or self._readings is None:
            self._reason = "the system keeps no high-water mark of the process"
            return
        try:
            self._readings.reset_high_water_mark()
        except OSError as error:
            self._reason = f"the high-water mark of the process cannot be reset: {error}"
            return
        if not self._proved:  # a sandbox may accept the write and do nothing
            after, resident = self._readings.high_water_and_resident()
            self._proved = True
            if after is None or after > resident + _PROOF_SLACK_BYTES:
                self._reason = "resetting the high-water mark of the process has no effect"

    def _faults_of_other_threads(self) -> int:
        """Return the recent page faults of the other threads."""
        if self._other_threads:
            at = self._other_faults[0]
            if at is None or self._faults is None or self._faults - at >= _RECENT_FAULTS:
                self._other_faults = self._faults, self._other_threads.page_faults()
        return self._other_faults[1]

    def _faults_of_others(self, faults: int | None) -> int | None:
        """Return the process's `faults` less those of the calling thread."""
        mine = None if self._readings is None else self._readings.thread_page_faults()
        return None if mine is None or faults is None else faults - mine

    def _poll(self) -> None:
        if self._poller is None:
            self._poller = Poller(self._fold_reading, _POLL_INTERVAL_S)
        self._poller.resume()

    def _fold_reading(self) -> None:
        with self._lock:
            if self._readings is not None and self._open:
                resident = self._readings.resident_bytes()
                for window in self._open:
                    window._fold(None, resident, self._stored_bytes)


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
