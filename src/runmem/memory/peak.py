"""The highest resident set size inside a window of time, from the kernel's high-water mark.

The mark is one for the process. At every start and stop of a window it is read and folded into each open window, and
at every start it is reset. So each window knows the exact peak of the *process* between its start and its stop; where
windows of several threads overlap, that is an upper bound for each of them, and they are labelled `shared`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from runmem.memory.allocator import trim_free_memory
from runmem.memory.polling import Poller
from runmem.memory.process import Readings, own_process

__all__ = ["PeakReading", "PeakMeter", "Window", "process_meter"]

_POLL_INTERVAL_S = 0.01
_PROOF_SLACK_BYTES = 4 * 1024**2
_UNREADABLE = (OSError, ValueError, IndexError)


class PeakReading(NamedTuple):
    """What a window measured.

    Attributes
    ----------
    base_bytes, peak_bytes, end_bytes : int or None
        Resident set size of the process at the start, its highest value inside the window, and at the stop.
    method : str or None
        ``hwm`` (the kernel's high-water mark, exact) or ``sampled`` (largest of the readings taken, a lower bound);
        None if nothing could be read.
    shared : bool
        Whether a window of another thread overlapped this one: the peak is then an upper bound.
    lifetime_peak_bytes : int or None
        Highest resident set size since the process started; None where there is no high-water mark.
    reason : str or None
        Why the peak is only sampled, or why a value is missing.
    """

    base_bytes: int | None
    peak_bytes: int | None
    end_bytes: int | None
    method: str | None
    shared: bool
    lifetime_peak_bytes: int | None
    reason: str | None


class Window:
    """An open measurement. Opaque but for `base_bytes`, the resident set size at its start (None: not readable)."""

    __slots__ = ("base_bytes", "_thread", "_within", "_peak", "_floor", "_exact", "_shared", "_reason")

    def __init__(self, within: object) -> None:
        self.base_bytes: int | None = None
        self._thread = threading.get_ident()
        self._within = within
        self._peak: int | None = None
        self._floor = sys.maxsize  # a mark up to this one may be older than the window
        self._exact = False
        self._shared = False
        self._reason: str | None = None

    def _fold(self, mark: int | None, resident: int) -> None:
        highest = resident
        if mark is not None and mark > self._floor:
            self._exact = True
            highest = max(mark, resident)
        if self._peak is None or highest > self._peak:
            self._peak = highest

    def _overlaps(self, other: Window) -> bool:
        if self._thread != other._thread:
            return True
        return self._within is not None and other._within is not None and self._within is not other._within


class PeakMeter:
    """Measure windows of time in one process; any thread may start and stop any number of them.

    Assumptions: nothing else in the process resets its high-water mark. Limitations: child processes are not in it.
    Memory that another thread takes and gives back in the few microseconds between the reading and the reset of the
    mark, at a start, is lost to the windows that are open then. Where the mark cannot be reset, a window's peak is
    still exact if the mark rose above its value at the start; else it is the largest of the readings at the start, at
    the stop and every 10 ms between, and labelled.

    Parameters
    ----------
    readings : Readings, optional
        Where the values come from; this process by default.
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
        self._faults: int | None = None
        self._turn = object()  # another one after every reading
        self._proved = False
        self._reason: str | None = None
        self._poller: Poller | None = None

    def start(self, trim: bool = False, within: object = None) -> Window:
        """Open a window and return it; never raises.

        Parameters
        ----------
        trim : bool
            Give free memory of the allocator back to the kernel first (glibc only), see `trim_free_memory`.
        within : object, optional
            What runs by turns with others in one thread, such as an asyncio task: windows within different ones
            count as overlapping although their thread is the same.
        """
        if trim:
            trim_free_memory()
        window = Window(within)
        with self._lock:
            for other in self._open:
                if window._overlaps(other):
                    window._shared = other._shared = True
            try:
                self._open_at(window, *self._read())
            except _UNREADABLE as error:
                window._reason = f"the memory of the process could not be read at the start: {error}"
            self._open.append(window)
            if not window._exact:
                self._poll()
        return window

    def stop(self, window: Window) -> PeakReading:
        """Close `window` and return what it measured; never raises."""
        with self._lock:
            end: int | None = None
            reason = window._reason
            try:
                end = self._read()[1]
            except _UNREADABLE as error:
                reason = f"the memory of the process could not be read at the end: {error}"
            self._close(window)
            return self._measured(window, end, reason)

    def next(self, window: Window) -> tuple[PeakReading, Window]:
        """Close `window` and open another of the same thread at that moment, with one reading for both; never raises.

        For work that follows at once. What is done between this call and that work is in the new window.
        """
        with self._lock:
            # With other windows open, or where marks cannot be reset, there is more to see to than at the common place.
            if self._open == [window] and window._thread == threading.get_ident() and self._reason is None:
                try:
                    follower = Window(window._within)
                    mark, resident = self._read()
                    self._open_at(follower, mark, resident)
                except _UNREADABLE:
                    pass  # told by what follows
                else:
                    if follower._exact:
                        self._open[0] = follower
                        return self._measured(window, resident, window._reason), follower
        return self.stop(window), self.start(within=window._within)

    def stillness(self, window: Window) -> Callable[[], bool] | None:
        """Return what tells whether `window`, the only one that is open, is still as good as new; None if it is not.

        While it says so, a reading would say of the window that its base, its peak and its end are the same, and the
        next one can begin in its place without a reading. It is to be asked by the window's own thread, and may raise
        OSError where `stop` would have a reason.
        """
        with self._lock:
            if self._readings is None or self._open != [window] or window._thread != threading.get_ident():
                return None
            if not window._exact or window._shared or window._reason is not None or self._reason is not None:
                return None
            still = self._readings.stillness()
            turn = self._turn
            # What was read when the window was opened still holds now, hence from then on:
            base, faults = self._readings.resident_bytes(), self._readings.page_faults()
            if still is None or faults != self._faults or not base == window.base_bytes == window._peak == self._mark:
                return None
        return lambda: still() and self._turn is turn

    def _open_at(self, window: Window, mark: int | None, resident: int) -> None:
        """Let `window` begin at a reading; a mark above it is reset, so that a lower peak is seen too."""
        window.base_bytes = window._peak = resident
        if self._reason is None and mark != resident:
            self._reset(mark)
        if self._reason is None:
            self._mark = resident
            window._floor, window._exact = 0, True
        elif mark is not None:
            window._floor = mark

    def _measured(self, window: Window, end_bytes: int | None, reason: str | None) -> PeakReading:
        if not window._exact:
            reason = reason or self._reason
        method = None if window._peak is None else "hwm" if window._exact else "sampled"
        shared, lifetime = window._shared, self._lifetime_peak
        return PeakReading(window.base_bytes, window._peak, end_bytes, method, shared, lifetime, reason)

    def so_far(self) -> int | None:
        """Return the peak up to now, in bytes, of the calling thread's outermost open window; None if there is none."""
        thread = threading.get_ident()
        with self._lock:
            window = next((window for window in self._open if window._thread == thread), None)
            if window is not None:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    self._read()
            return None if window is None else window._peak

    def _read(self) -> tuple[int | None, int]:
        """Read mark and size, and fold them into every open window and the lifetime's peak.

        While the process has had no page fault its size has not risen, and the mark, which costs most, is not read: the
        last one still holds.
        """
        self._turn = object()
        if self._readings is None:
            self._readings = own_process()
        faults = self._readings.page_faults()
        if faults is not None and faults == self._faults:
            mark, resident = self._mark, self._readings.resident_bytes()
        else:
            mark, resident = self._readings.high_water_and_resident()
            self._faults = faults
        for window in self._open:
            window._fold(mark, resident)
        if mark is not None and (self._lifetime_peak is None or mark > self._lifetime_peak):
            self._lifetime_peak = mark
        self._mark = mark
        return mark, resident

    def _reset(self, mark: int | None) -> None:
        """Reset the mark; if that fails, now or silently, say in `_reason` that peaks are sampled from here on."""
        if mark is None or self._readings is None:
            self._reason = "the system keeps no high-water mark of the process"
            return
        try:
            self._readings.reset_high_water_mark()
        except OSError as error:
            self._reason = f"the high-water mark of the process cannot be reset: {error}"
            return
        if not self._proved:  # a sandbox may take the write and do nothing
            after, resident = self._readings.high_water_and_resident()
            self._proved = True
            if after is None or after > resident + _PROOF_SLACK_BYTES:
                self._reason = "resetting the high-water mark of the process has no effect"

    def _close(self, window: Window) -> None:
        if window not in self._open:
            return
        at = self._open.index(window)
        for later in self._open[at + 1 :]:
            if later._thread == window._thread:  # neither holds the other: generators or coroutines that take turns
                window._shared = later._shared = True
        del self._open[at]
        if not self._open and self._poller is not None:
            self._poller.pause()

    def _poll(self) -> None:
        if self._poller is None:
            self._poller = Poller(self._fold_reading, _POLL_INTERVAL_S)
        self._poller.resume()

    def _fold_reading(self) -> None:
        with self._lock:
            if self._readings is not None and self._open:
                resident = self._readings.resident_bytes()
                for window in self._open:
                    window._fold(None, resident)

    def _after_fork(self) -> None:
        """Go on in the child: of the open windows, those of the thread that forked are the child's too."""
        mine = [window for window in self._open if window._thread == threading.get_ident()]
        self._begin()
        self._open = mine


_meter = PeakMeter()


def process_meter() -> PeakMeter:
    """Return the meter of this process: all measuring goes through it, since a second one would reset its mark."""
    return _meter


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_meter._after_fork)
