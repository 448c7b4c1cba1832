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
from collections.abc import Callable, Sequence
from typing import NamedTuple

from runmem.memory.allocator import trim_free_memory
from runmem.memory.leftovers import Leftovers
from runmem.memory.other_threads import OtherThreads
from runmem.memory.polling import Poller
from runmem.memory.process import Readings, own_process
from runmem.memory.window import TOLERANCE_BYTES, PeakReading, Window
from runmem.units import MIB

__all__ = ["Coming", "PeakReading", "PeakMeter", "Leaving", "Window", "process_meter"]

_POLL_INTERVAL_S = 0.01
_PROOF_SLACK_BYTES = 4 * 1024**2
_UNREADABLE = (OSError, ValueError, IndexError)
_NO_FAULTS, _FEW_FAULTS, _MANY_FAULTS = 16, 64, 128  # a thread that passes messages on has a few now and then
_PAGE_BYTES, _HUGE_PAGE_BYTES = 4096, 2 * MIB
_LEAST_OF_HUGE_PAGES_BYTES = 4 * MIB  # numpy asks for huge pages from here on
_ARRIVED = "results for other tasks came meanwhile"
_LEFT = "results of other tasks were given up meanwhile"
_FOREIGN = "threads of the worker took memory for other tasks meanwhile"
_UNTRIMMED = "what earlier tasks left in the allocator could not be given back before it"


class Leaving:
    """Something held for others that is being given up: what was read before. Opaque."""

    __slots__ = ("_size", "_windows", "_resident", "_others", "_turn")

    def __init__(
        self, size: int, windows: Sequence[Window] = (), resident: int = 0, others: int | None = None,
        turn: object = None,
    ) -> None:  # fmt: skip
        self._size = size
        self._windows = windows
        self._resident = resident
        self._others = others
        self._turn = turn


class Coming(NamedTuple):
    """Something that is on its way to this process, for others: what was known when it began to come."""

    size_bytes: int
    number: int
    faults: int

    def has_grown(self, faults: int) -> bool:
        """Tell whether the process has grown by all of it, given the page faults of the threads that receive it now.

        It may lie in memory that the allocator held already. A fault brings 4 KiB, or 2 MiB of a block that is large.
        """
        a_fault = _PAGE_BYTES if self.size_bytes < _LEAST_OF_HUGE_PAGES_BYTES else _HUGE_PAGE_BYTES
        return (faults - self.faults) * a_fault >= self.size_bytes - TOLERANCE_BYTES


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
        self._busy = False
        self._given_up_meanwhile = 0
        self._leaving = 0
        self._resident = 0
        self._expected = 0
        self._expected_to_arrive = 0
        self._held = 0
        self._held_number = 0
        self._leftovers = Leftovers()
        self._other_threads = OtherThreads()
        self._foreign: tuple[int | None, int] = None, 0  # page faults: of the process, and of the other threads then

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
            except _UNREADABLE as error:
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
            except _UNREADABLE as error:
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
                except _UNREADABLE:
                    pass  # told by what follows
                else:
                    if follower._exact:
                        self._open[0] = follower
                        self._account_for_given_up()
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
            if window._level != base or window._slack:
                return None
        return lambda: still() and self._turn is turn

    def _open_at(self, window: Window, mark: int | None, resident: int) -> None:
        """Let `window` begin at a reading; a mark above it is reset, so that a lower peak is seen too."""
        window.base_bytes = window._peak = window._level = resident
        window._held, window._opened, window._foreign = self._held, self._held_number, self._foreign_faults()
        if self._leaving:
            window._give_up(self._leaving, _LEFT)
        if self._expected:
            window._expect(self._expected, _ARRIVED)
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

    def _foreign_faults(self) -> int:
        """Return the page faults of other threads, as they were when the process had a few less than now."""
        if self._other_threads:
            at = self._foreign[0]
            if at is None or self._faults is None or self._faults - at >= _FEW_FAULTS:
                self._foreign = self._faults, self._other_threads.page_faults()
        return self._foreign[1]

    def _tidy(self, window: Window) -> None:
        """Have free memory given back if more than a little of it may be left."""
        try:
            readings = self._readings or own_process()
            if self._leftovers.expected(readings.resident_bytes()):
                if self._leftovers.give_back():
                    self._leftovers.gave_back(readings.resident_bytes())
                else:
                    window._hidden = _UNTRIMMED
        except _UNREADABLE:
            return  # told by the reading that follows

    def watch_this_thread(self) -> None:
        """Count the page faults of the calling thread, which works for others than those that run in windows."""
        with self._lock:
            self._other_threads.add_current()
            self._foreign = None, self._foreign[1]

    def coming(self, size_bytes: int) -> Coming:
        """Note that `size_bytes` for others begin to come; give the result to `came`."""
        with self._lock:
            self._expected += size_bytes
            self._expected_to_arrive += size_bytes
            self._held_number += 1
            if self._open:
                with contextlib.suppress(*_UNREADABLE):
                    self._read()
                for window in self._open:
                    window._expect(size_bytes, _ARRIVED)
            return Coming(size_bytes, self._held_number, self._other_threads.page_faults())

    def came(self, coming: Coming, whole: bool) -> None:
        """Note that it has come, as a `whole` or not, and comes no longer."""
        with self._lock:
            self._expected -= coming.size_bytes
            self._expected_to_arrive = min(self._expected_to_arrive, self._expected)
            if self._open:
                with contextlib.suppress(*_UNREADABLE):
                    self._read()
                faults = self._other_threads.page_faults()
                whole = whole and coming.has_grown(faults)
                for window in self._open:
                    if whole and window._opened < coming.number:
                        window._came(coming.size_bytes)
                    window._foreign = faults
                self._foreign = self._faults, faults

    def arrived(self, size_bytes: int) -> int:
        """Note that the process holds `size_bytes` more for others, and return a number for it.

        In the thread of a window it is the window's own memory, which it keeps. In other threads when it came is not
        known if it was not said to be coming: some time before now.
        """
        thread = threading.get_ident()
        with self._lock:
            self._held += size_bytes
            self._held_number += 1
            windows = [window for window in self._open if window._thread != thread]
            if windows:
                if size_bytes <= self._expected_to_arrive:
                    self._expected_to_arrive -= size_bytes
                else:
                    self._arrive(size_bytes, windows)
            return self._held_number

    def _arrive(self, size_bytes: int, windows: list[Window]) -> None:
        self._other_threads.add_current()
        faults = self._other_threads.page_faults()
        for window in windows:
            if not self._other_threads or faults - window._foreign > _NO_FAULTS:
                window._expect(size_bytes, _ARRIVED)
            window._foreign = faults
        with contextlib.suppress(*_UNREADABLE):
            self._read()
        self._foreign = self._faults, faults

    def leaving(self, size_bytes: int, number: int, thread: int) -> Leaving:
        """Note that what came as `number`, in `thread`, is about to be given up; give the result to `left` after that."""
        with self._lock:
            before, self._held = self._held, self._held - size_bytes
            self._leaving += size_bytes
            if size_bytes >= TOLERANCE_BYTES:
                self._leftovers.may_be()
            windows = [w for w in self._open if w._thread != thread or number <= w._opened]
            if self._busy:  # a finaliser within one of our own methods
                self._given_up_meanwhile += size_bytes
                windows = []
            if not windows:
                return Leaving(size_bytes)
            self._held = before  # at the highest until now
            with contextlib.suppress(*_UNREADABLE):  # told by the reading at the stop
                self._read()
            self._held = before - size_bytes
            for window in windows:
                window._give_up(size_bytes, _LEFT)
            return Leaving(size_bytes, windows, self._resident, self._faults_of_others(), self._turn)

    def left(self, leaving: Leaving) -> None:
        """Note that it is given up, in the same thread."""
        with self._lock:
            self._leaving -= leaving._size
            # If something else was read meanwhile, nobody knows whether before or after: it stays in doubt.
            if leaving._windows and self._turn is leaving._turn and self._readings is not None and not self._busy:
                with contextlib.suppress(*_UNREADABLE):
                    self._leave(leaving, self._readings)

    def _leave(self, leaving: Leaving, readings: Readings) -> None:
        size, windows = leaving._size, leaving._windows
        for window in windows:
            window._take_back(size)
        mark, resident = self._read()
        others = self._faults_of_others()
        others_stood_still = others is not None and others == leaving._others
        gone = leaving._resident - resident
        if gone < size - TOLERANCE_BYTES and self._leftovers.give_back():
            resident = readings.resident_bytes()
            others_stood_still = others_stood_still and leaving._resident - resident <= size + TOLERANCE_BYTES
            gone = leaving._resident - resident
        if others_stood_still:
            least = most = gone
        else:  # the task may have taken some meanwhile
            least, most = (size, size) if abs(gone - size) <= TOLERANCE_BYTES else sorted((max(gone, 0), size))
        for window in windows:
            window._give_up(most, _LEFT, most - least)
            window._fold(None, resident, self._held)
        if mark != resident:
            if self._reason is None:
                self._reset(mark)
            if self._reason is None:
                self._mark = resident
            elif mark is not None:
                for window in windows:
                    window._floor = max(window._floor, mark)

    def _faults_of_others(self) -> int | None:
        """Return the page faults up to the last reading of all threads but the one that calls this."""
        mine = None if self._readings is None else self._readings.thread_page_faults()
        return None if mine is None or self._faults is None else self._faults - mine

    def _account_for_given_up(self) -> None:
        self._busy = False
        if self._given_up_meanwhile:
            size, self._given_up_meanwhile = self._given_up_meanwhile, 0
            for window in self._open:
                window._give_up(size, _LEFT)

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
        self._resident = resident
        for window in self._open:
            window._fold(mark, resident, self._held)
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
                    window._fold(None, resident, self._held)

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
