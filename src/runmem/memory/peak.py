"""The highest resident set size inside a window of time, from the kernel's high-water mark.

The mark is one for the process. At every start and stop of a window it is read and folded into each open window, and
at every start it is reset. So each window knows the exact peak of the *process* between its start and its stop; where
windows of several threads overlap, that is an upper bound for each of them, and they are labelled `shared`.

What the process holds for others (`held.py`) may come and go inside a window. Then what is read is folded with what of
it was the window's own before, and with what is after.
"""

from __future__ import annotations

import contextlib
import os
import threading

from runmem.memory.allocator import trim_free_memory
from runmem.memory.high_water import UNREADABLE
from runmem.memory.process import own_process
from runmem.memory.traffic import Coming, Leaving, Traffic
from runmem.memory.window import TOLERANCE_BYTES, PeakReading, Window

__all__ = ["Coming", "PeakReading", "PeakMeter", "Leaving", "Window", "process_meter"]

_MANY_FAULTS = 64  # a thread that only passes messages on has up to 35 during a task, however long that is
_FOREIGN = "threads of the worker took memory for other tasks meanwhile"
_UNTRIMMED = "what earlier tasks left in the allocator could not be given back before it"


class PeakMeter(Traffic):
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

    def start(self, trim: bool = False, within: object = None, tidy: bool = False) -> Window:
        """Open a window and return it; never raises.

        Parameters
        ----------
        trim : bool
            Give free memory of the allocator back to the kernel first (glibc only), see `trim_free_memory`.
        within : object, optional
            What runs by turns with others in one thread, such as an asyncio task: windows within different ones
            count as overlapping although their thread is the same.
        tidy : bool
            The same as `trim`, but only if more than a little may be left of what was measured before.
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
            self._account_for_given_up()
        return window

    def stop(self, window: Window) -> PeakReading:
        """Close `window` and return what it measured; never raises."""
        with self._lock:
            self._busy = True
            end: int | None = None
            reason = window._reason
            try:
                end = self._read()[1]
            except UNREADABLE as error:
                reason = f"the memory of the process could not be read at the end: {error}"
            self._account_for_given_up()
            self._close(window)
            return self._measured(window, end, reason)

    def next(self, window: Window) -> tuple[PeakReading, Window]:
        """Close `window` and open another of the same thread at that moment, with one reading for both; never raises.

        For work that follows at once. What is done between this call and that work is in the new window.
        """
        with self._lock:
            # With other windows open, or where marks cannot be reset, there is more to see to than at the common place.
            if self._open == [window] and window._thread == threading.get_ident() and self._reason is None:
                follower = Window(window._within)
                self._busy = True
                try:
                    mark, resident = self._read()
                    self._open_at(follower, mark, resident)
                except UNREADABLE:
                    pass  # told by what follows
                else:
                    if follower._exact:
                        self._open[0] = follower
                        self._account_for_given_up()
                        return self._measured(window, resident, window._reason), follower
        return self.stop(window), self.start(within=window._within)

    def _open_at(self, window: Window, mark: int | None, resident: int) -> None:
        """Let `window` begin at a reading; a mark above it is reset, so that a lower peak is seen too."""
        window.base_bytes = window._peak = window._level = resident
        self._note_traffic(window)
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
        if not self._expected and self._foreign_faults() - window._foreign > _MANY_FAULTS:
            window._least = 0
            window._doubt(_FOREIGN)
        if window._most > TOLERANCE_BYTES:
            self._leftovers.may_be()
        return window._reading(end_bytes, self._lifetime_peak, reason)

    def _tidy(self, window: Window) -> None:
        """Have free memory given back if more than a little of it may be left."""
        try:
            readings = self._readings or own_process()
            if self._leftovers.expected(readings.resident_bytes()):
                if self._leftovers.give_back():
                    self._leftovers.gave_back(readings.resident_bytes())
                else:
                    window._hidden = _UNTRIMMED
        except UNREADABLE:
            return  # told by the reading that follows

    def so_far(self) -> int | None:
        """Return the peak up to now, in bytes, of the calling thread's outermost open window; None if there is none."""
        thread = threading.get_ident()
        with self._lock:
            window = next((window for window in self._open if window._thread == thread), None)
            if window is not None:
                with contextlib.suppress(OSError, ValueError, IndexError):
                    self._read()
            return None if window is None else window._peak

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

    def _after_fork(self) -> None:
        """Go on in the child: of the open windows, those of the thread that forked are the child's too."""
        mine = [window for window in self._open if window._thread == threading.get_ident()]
        held, number = self._held, self._held_number
        self._begin()
        self._open, self._held, self._held_number = mine, held, number


_meter = PeakMeter()


def process_meter() -> PeakMeter:
    """Return the meter of this process: all measuring goes through it, since a second one would reset its mark."""
    return _meter


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_meter._after_fork)
