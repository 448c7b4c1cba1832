"""Track data of other tasks that the process receives, stores and releases while windows are open."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

from runmem.memory.high_water import UNREADABLE, HighWater
from runmem.memory.leftovers import Leftovers
from runmem.memory.process import Readings
from runmem.memory.window import TOLERANCE_BYTES, Window
from runmem.units import MIB

__all__ = ["READ_BACK", "RECEIVED", "RELEASED", "SPILLED", "DataTracking", "Release", "Transfer"]

_FEW_FAULTS, _FAULTS_OF_MESSAGES = 16, 64
_SAME_BYTES = 64 * 1024
_PAGE_BYTES, _HUGE_PAGE_BYTES = 4096, 2 * MIB
_LEAST_OF_HUGE_PAGES_BYTES = 4 * MIB  # numpy asks for huge pages from here on
RECEIVED = "results for other tasks were received meanwhile"
RELEASED = "results of other tasks were released meanwhile"
SPILLED = "Dask moved results to disk meanwhile"
READ_BACK = "Dask read results from disk meanwhile"


class Release(NamedTuple):
    """The release of stored data, with the readings before it."""

    size: int
    windows: Sequence[Window] = ()
    resident: int = 0
    faults_of_others: int | None = None
    last_reading: object = None


class Transfer(NamedTuple):
    """A transfer of data of other tasks to this process, with the page faults before it."""

    size_bytes: int
    number: int
    faults: int  # of the receiving threads, less those of earlier transfers

    @property
    def faults_needed(self) -> int:
        """Page faults that prove that the process grew by the data: one for 4 KiB, or for 2 MiB inside a large block.

        A large block mostly has hundreds of small pages at its ends; fewer faults may be those of messages.
        """
        if self.size_bytes < _LEAST_OF_HUGE_PAGES_BYTES:
            return self.size_bytes // _PAGE_BYTES - _FEW_FAULTS
        return self.size_bytes // _HUGE_PAGE_BYTES + _FAULTS_OF_MESSAGES


class DataTracking(HighWater):
    """Track transfers and releases of data of other tasks; any thread may report them.

    The time of a release is known: the memory is read before and after it. The time at which received data takes memory
    is only known to be between the start and the end of its transfer.
    """

    def _begin(self) -> None:
        super()._begin()
        self._busy = False  # inside a method of a meter, where a finaliser may run
        self._released_meanwhile = 0
        self._releasing_bytes = 0
        self._expected_bytes = 0
        self._accounted_faults = 0  # page faults of receiving threads that belong to known transfers
        self._stored_number = 0
        self._leftovers = Leftovers()

    def receiving(self, size_bytes: int) -> Transfer:
        """Report that a transfer of `size_bytes` for other tasks begins; pass the result to `received`."""
        with self._lock:
            self._expected_bytes += size_bytes
            self._stored_number += 1
            if self._open:
                with contextlib.suppress(*UNREADABLE):
                    self._read()
                for window in self._open:
                    window._expect(size_bytes, RECEIVED)
            return Transfer(size_bytes, self._stored_number, self._other_threads.page_faults() - self._accounted_faults)

    def received(self, transfer: Transfer, whole: bool) -> None:
        """Report that a transfer has ended, with `whole` if it succeeded."""
        with self._lock:
            self._expected_bytes -= transfer.size_bytes
            if self._open:
                with contextlib.suppress(*UNREADABLE):
                    self._read()
                faults = self._other_threads.page_faults()
                # Without these faults the data may be in memory that the allocator had already.
                whole = whole and faults - self._accounted_faults - transfer.faults >= transfer.faults_needed
                self._accounted_faults += whole * transfer.faults_needed
                for window in self._open:
                    if whole and window._last_number < transfer.number:
                        window._confirm(transfer.size_bytes)
                    window._other_faults = faults
                self._other_faults = self._faults, faults

    def stored(self, size_bytes: int, received_bytes: int = 0, reason: str = RECEIVED) -> int:
        """Report that the process stores `size_bytes` more for other tasks, and return a number for them.

        Data stored by the thread of a window is the window's own memory. Of data stored by other threads,
        `received_bytes` are in reported transfers; the rest was allocated at an unknown earlier time, for `reason`.
        """
        thread = threading.get_ident()
        with self._lock:
            self._stored_bytes += size_bytes
            self._stored_number += 1
            windows = [window for window in self._open if window._thread != thread]
            if windows and size_bytes > received_bytes:
                self._expect_stored(size_bytes - received_bytes, windows, reason)
            return self._stored_number

    def discarding(self, size_bytes: int) -> None:
        """Report that received data that was never stored is about to be released."""
        with self._lock:
            if self._busy:
                self._released_meanwhile += size_bytes
                return
            for window in self._open:
                window._release(size_bytes, RECEIVED)

    def discarded(self, size_bytes: int, reason: str = RELEASED) -> None:
        """Report that stored data was released about now, where the memory could not be read just before and after."""
        with self._lock:
            self._stored_bytes -= size_bytes
            if size_bytes >= TOLERANCE_BYTES:
                self._leftovers.note_freed()
            for window in self._open:
                window._release(size_bytes, reason)

    def _expect_stored(self, size_bytes: int, windows: list[Window], reason: str) -> None:
        self._other_threads.add_current()
        faults = self._other_threads.page_faults()
        for window in windows:
            if not self._other_threads or faults - window._other_faults > _FEW_FAULTS:
                window._expect(size_bytes, reason)
            window._other_faults = faults
        with contextlib.suppress(*UNREADABLE):
            self._read()
        self._other_faults = self._faults, faults

    def handed_over(self, size_bytes: int) -> None:
        """Report that `size_bytes` are no longer stored for other tasks, but the memory of a task."""
        with self._lock:
            self._stored_bytes -= size_bytes

    def releasing(self, size_bytes: int, number: int, thread: int) -> Release:
        """Report that data stored as `number` by `thread` is about to be released; pass the result to `released`."""
        with self._lock:
            before, self._stored_bytes = self._stored_bytes, self._stored_bytes - size_bytes
            self._releasing_bytes += size_bytes
            if size_bytes >= TOLERANCE_BYTES:
                self._leftovers.note_freed()
            windows = [w for w in self._open if w._thread != thread or number <= w._last_number]
            if self._busy:  # called by a finaliser inside a method of the meter
                self._released_meanwhile += size_bytes
                windows = []
            if not windows:
                return Release(size_bytes)
            self._stored_bytes = before  # for the peak so far
            with contextlib.suppress(*UNREADABLE):  # the reading at the stop reports the error
                self._read()
            self._stored_bytes = before - size_bytes
            for window in windows:
                window._release(size_bytes, RELEASED)
            return Release(
                size_bytes, windows, self._resident, self._faults_of_others(self._faults), self._last_reading
            )

    def released(self, release: Release) -> None:
        """Report that the data has been released, by the same thread."""
        with self._lock:
            self._releasing_bytes -= release.size
            # After another reading in between, the effect of the release is unknown: it stays uncertain.
            if (
                release.windows
                and self._last_reading is release.last_reading
                and self._readings is not None
                and not self._busy
            ):
                with contextlib.suppress(*UNREADABLE):
                    self._record_release(release, self._readings)

    def _record_release(self, release: Release, readings: Readings) -> None:
        size, windows = release.size, release.windows
        for window in windows:
            window._confirm(size)
        mark, resident = self._read()
        trimmed = release.resident - resident < size - _SAME_BYTES and size >= TOLERANCE_BYTES
        trimmed = trimmed and self._leftovers.trim()
        if trimmed:
            mark, resident = self._read()
        gone = release.resident - resident
        # The page faults are read before the first reading and after the last: if equal, no other thread took memory.
        faults = release.faults_of_others
        is_alone = faults is not None and faults == self._faults_of_others(readings.page_faults())
        if is_alone and not (trimmed and gone > size + _SAME_BYTES):
            least = most = gone
        else:  # the task may have taken some memory meanwhile
            least, most = (size, size) if abs(gone - size) <= _SAME_BYTES else sorted((max(gone, 0), size))
        for window in windows:
            window._release(most, RELEASED, most - least)
            window._fold(None, resident, self._stored_bytes)
        if mark != resident:
            if self._reason is None:
                self._reset(mark)
            if self._reason is None:
                self._mark = resident
            elif mark is not None:
                for window in windows:
                    window._floor = max(window._floor, mark)

    def _account_for_releases(self) -> None:
        self._busy = False
        if self._released_meanwhile:
            size, self._released_meanwhile = self._released_meanwhile, 0
            for window in self._open:
                window._release(size, RELEASED)

    def _init_stored_data(self, window: Window) -> None:
        """Pass the stored data, transfers and releases in progress to a window that opens."""
        window._stored_bytes, window._last_number = self._stored_bytes, self._stored_number
        window._other_faults = self._faults_of_other_threads()
        if self._releasing_bytes:
            window._release(self._releasing_bytes, RELEASED)
        if self._expected_bytes:
            window._expect(self._expected_bytes, RECEIVED)
