"""The highest resident set size inside a window of time, from the kernel's high-water mark.

The process has one mark. At every start and stop of a window it is read into each open window, and at every start it is
reset. So each window has the exact peak of the *process* between its start and its stop. If windows of several threads
overlap, that is an upper bound for each of them, and they are labelled `shared`.

Data that the process stores for other tasks (`stored_data.py`) may be received and released inside a window. The
readings before and after that are compared with different levels.
"""

from __future__ import annotations

import contextlib
import os
import threading

from runmem.memory.allocator import trim_free_memory
from runmem.memory.data_tracking import DataTracking
from runmem.memory.high_water import UNREADABLE
from runmem.memory.process import own_process
from runmem.memory.window import TOLERANCE_BYTES, PeakReading, Window

__all__ = ["PeakMeter", "PeakReading", "Window", "process_meter"]

_MANY_FAULTS = 64  # a thread that only forwards messages has up to 35 during a task, however long that is
_OTHER_THREADS = "threads of the worker took memory for other tasks meanwhile"
_UNTRIMMED = "free memory of earlier tasks could not be returned by the allocator before it"


class PeakMeter(DataTracking):
    """Measure windows of time in one process; any thread may start and stop any number of them.

    Assumptions: nothing else in the process resets its high-water mark. Limitations: child processes are not included.
    If another thread takes and frees memory in the few microseconds between the reading and the reset of the mark at a
    start, the open windows miss it. If the mark cannot be reset, a window's peak is still exact if the mark rose above
    its value at the start; otherwise it is the largest of the readings at the start, at the stop and every 10 ms, and
    labelled.

    Parameters
    ----------
    readings : Readings, optional
        Source of the values; default this process.
    """

    def start(self, trim: bool = False, within: object = None, tidy: bool = False) -> Window:
        """Open a window and return it; never raises.

        Parameters
        ----------
        trim : bool
            Return free memory of the allocator to the kernel first (glibc only), see `trim_free_memory`.
        within : object, optional
            The asyncio task or the like that shares its thread with others: windows within different ones count as
            overlapping although their thread is the same.
        tidy : bool
            As `trim`, but only if earlier measurements may have left more than the tolerance.
        """
        window = Window(within)
        if trim:
            trim_free_memory()
        elif tidy:
            self._tidy(window)
        with self._lock:
            self._busy = True
            for other in self._open:
                if window._overlaps(other):
                    window._shared = other._shared = True
            try:
                self._open_at(window, *self._read())
            except UNREADABLE as error:
                window._reason = f"the memory of the process could not be read at the start: {error}"
            self._open.append(window)
            if not window._exact:
                self._poll()
            self._account_for_releases()
        return window

    def stop(self, window: Window) -> PeakReading:
        """Close `window` and return its reading; never raises."""
        with self._lock:
            self._busy = True
            end: int | None = None
            reason = window._reason
            try:
                end = self._read()[1]
            except UNREADABLE as error:
                reason = f"the memory of the process could not be read at the end: {error}"
            self._account_for_releases()
            self._close(window)
            return self._measured(window, end, reason)

    def next(self, window: Window) -> tuple[PeakReading, Window]:
        """Close `window` and open another in the same thread, with one reading for both; never raises.

        For work that follows at once: the new window includes the time until that work.
        """
        with self._lock:
            # The fast path needs a single open window and a mark that can be reset.
            if self._open == [window] and window._thread == threading.get_ident() and self._reason is None:
                follower = Window(window._within)
                self._busy = True
                try:
                    mark, resident = self._read()
                    self._open_at(follower, mark, resident)
                except UNREADABLE:
                    pass  # the calls below report the error
                else:
                    if follower._exact:
                        self._open[0] = follower
                        self._account_for_releases()
                        return self._measured(window, resident, window._reason), follower
        return self.stop(window), self.start(within=window._within)

    def _open_at(self, window: Window, mark: int | None, resident: int) -> None:
        """Open `window` at a reading; a mark above it is reset, so that a lower peak is seen too."""
        window.base_bytes = window._peak = window._level = resident
        self._init_stored_data(window)
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
        if not self._expected_bytes and self._faults_of_other_threads() - window._other_faults > _MANY_FAULTS:
            window._least = 0
            window._doubt(_OTHER_THREADS)
        if window._most > TOLERANCE_BYTES:
            self._leftovers.note_freed()
        return window._reading(end_bytes, self._lifetime_peak, reason)

    def _tidy(self, window: Window) -> None:
        """Trim the allocator if more than the tolerance may be free."""
        try:
            readings = self._readings or own_process()
            resident = readings.resident_bytes()
            if self._leftovers.expected(resident):
                if self._leftovers.trim():
                    self._leftovers.note_trimmed(readings.resident_bytes())
                elif self._leftovers.may_hide(resident - self._stored_bytes):
                    window._hidden = _UNTRIMMED
        except UNREADABLE:
            return  # the reading that follows reports the error

    def level_bytes(self) -> int | None:
        """Return the size of the process in bytes, without what the code in open windows has added; None: unreadable.

        It is the upper bound, if data of other tasks is on its way.
        """
        with self._lock:
            if self._open:
                return min(window._level + window._slack for window in self._open)
            try:
                return (self._readings or own_process()).resident_bytes()
            except UNREADABLE:
                return None

    def line_peak(self, window: Window) -> tuple[int | None, int]:
        """Return the peak since the last call for `window`, or since it was opened, and the present size, in bytes.

        The kernel's mark is read into all open windows before it is reset, so their peaks stay exact, and the windows
        of lines may be nested. None in place of the peak: the mark cannot be reset (`why_sampled`).

        Raises OSError, ValueError or IndexError if the memory cannot be read.
        """
        with self._lock:
            self._busy = True
            try:
                mark, resident = self._read()
                if self._reason is None and mark != resident:
                    self._reset(mark)
                if self._reason is not None or not window._exact:
                    return None, resident
                self._mark = resident
                peak, window._line_peak = window._line_peak, resident
                return peak, resident
            finally:
                self._account_for_releases()

    @property
    def why_sampled(self) -> str | None:
        """Why the kernel's mark cannot be used, so that peaks are sampled; None if it can, as far as is known."""
        return self._reason

    def so_far(self) -> int | None:
        """Return the peak so far, in bytes, of the calling thread's outermost open window; None if there is none."""
        thread = threading.get_ident()
        with self._lock:
            window = next((window for window in self._open if window._thread == thread), None)
            if window is not None:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    self._read()
            return None if window is None else window._peak

    def method_so_far(self) -> str | None:
        """Return how `so_far` was measured: ``hwm`` or ``sampled``, and ``, shared``; None without such a window."""
        thread = threading.get_ident()
        with self._lock:
            window = next((window for window in self._open if window._thread == thread), None)
            if window is None or window._peak is None:
                return None
            return window._reading(None, self._lifetime_peak, self._reason).how

    def _close(self, window: Window) -> None:
        if window not in self._open:
            return
        at = self._open.index(window)
        for later in self._open[at + 1 :]:
            if later._thread == window._thread:  # not nested: generators or coroutines that alternate
                window._shared = later._shared = True
        del self._open[at]
        if not self._open and self._poller is not None:
            self._poller.pause()

    def _after_fork(self) -> None:
        """Continue in the child with the open windows of the thread that forked."""
        mine = [window for window in self._open if window._thread == threading.get_ident()]
        stored, number = self._stored_bytes, self._stored_number
        self._begin()
        self._open, self._stored_bytes, self._stored_number = mine, stored, number


_meter = PeakMeter()


def process_meter() -> PeakMeter:
    """Return the meter of this process, its only one: a second would reset the mark of the first."""
    return _meter


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_meter._after_fork)
