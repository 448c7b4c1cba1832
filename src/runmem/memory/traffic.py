"""What comes to the process and goes while windows are open, and is held for others than what runs in them."""

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

__all__ = ["Coming", "Leaving", "Traffic"]

_NO_FAULTS = 16
_PAGE_BYTES, _HUGE_PAGE_BYTES = 4096, 2 * MIB
_LEAST_OF_HUGE_PAGES_BYTES = 4 * MIB  # numpy asks for huge pages from here on
_ARRIVED = "results for other tasks came meanwhile"
_LEFT = "results of other tasks were given up meanwhile"


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
    faults: int  # of the threads that receive it, less those by which others that came are explained

    @property
    def faults_needed(self) -> int:
        """Page faults with which the process grows by it: each brings 4 KiB, or 2 MiB of a block that is large."""
        a_fault = _PAGE_BYTES if self.size_bytes < _LEAST_OF_HUGE_PAGES_BYTES else _HUGE_PAGE_BYTES
        return max(0, self.size_bytes - TOLERANCE_BYTES) // a_fault


class Traffic(HighWater):
    """Follow what comes and goes; any thread may tell of it.

    When something that is given up goes is known: it is read before and after. When something that comes does is not,
    between the time at which it begins to and the time at which it is there.
    """

    def _begin(self) -> None:
        super()._begin()
        self._busy = False  # within a method of a meter, where a finaliser may run too
        self._given_up_meanwhile = 0
        self._leaving = 0
        self._expected = 0
        self._explained = 0  # page faults of those who receive
        self._held_number = 0
        self._leftovers = Leftovers()

    def coming(self, size_bytes: int) -> Coming:
        """Note that `size_bytes` for others begin to come; give the result to `came`."""
        with self._lock:
            self._expected += size_bytes
            self._held_number += 1
            if self._open:
                with contextlib.suppress(*UNREADABLE):
                    self._read()
                for window in self._open:
                    window._expect(size_bytes, _ARRIVED)
            return Coming(size_bytes, self._held_number, self._other_threads.page_faults() - self._explained)

    def came(self, coming: Coming, whole: bool) -> None:
        """Note that it has come, as a `whole` or not, and comes no longer."""
        with self._lock:
            self._expected -= coming.size_bytes
            if self._open:
                with contextlib.suppress(*UNREADABLE):
                    self._read()
                faults = self._other_threads.page_faults()
                # Else it may lie in memory that the allocator held already.
                whole = whole and faults - self._explained - coming.faults >= coming.faults_needed
                self._explained += whole * coming.faults_needed
                for window in self._open:
                    if whole and window._opened < coming.number:
                        window._came(coming.size_bytes)
                    window._foreign = faults
                self._foreign = self._faults, faults

    def arrived(self, size_bytes: int, came_bytes: int = 0) -> int:
        """Note that the process holds `size_bytes` more for others, and return a number for it.

        In the thread of a window it is the window's own memory, which it keeps. Of what other threads made,
        `came_bytes` lie in what was said to come; when the rest was taken is not known: some time before now.
        """
        thread = threading.get_ident()
        with self._lock:
            self._held += size_bytes
            self._held_number += 1
            windows = [window for window in self._open if window._thread != thread]
            if windows and size_bytes > came_bytes:
                self._arrive(size_bytes - came_bytes, windows)
            return self._held_number

    def vanishing(self, size_bytes: int) -> None:
        """Note that what came, and that nobody holds, is about to be given up."""
        with self._lock:
            if self._busy:
                self._given_up_meanwhile += size_bytes
                return
            for window in self._open:
                window._give_up(size_bytes, _ARRIVED)

    def _arrive(self, size_bytes: int, windows: list[Window]) -> None:
        self._other_threads.add_current()
        faults = self._other_threads.page_faults()
        for window in windows:
            if not self._other_threads or faults - window._foreign > _NO_FAULTS:
                window._expect(size_bytes, _ARRIVED)
            window._foreign = faults
        with contextlib.suppress(*UNREADABLE):
            self._read()
        self._foreign = self._faults, faults

    def leaving(self, size_bytes: int, number: int, thread: int) -> Leaving:
        """Note that what came as `number`, in `thread`, is about to be given up; give the result to `left` then."""
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
            with contextlib.suppress(*UNREADABLE):  # told by the reading at the stop
                self._read()
            self._held = before - size_bytes
            for window in windows:
                window._give_up(size_bytes, _LEFT)
            return Leaving(size_bytes, windows, self._resident, self._faults_of_others(self._faults), self._turn)

    def left(self, leaving: Leaving) -> None:
        """Note that it is given up, in the same thread."""
        with self._lock:
            self._leaving -= leaving._size
            # If something else was read meanwhile, nobody knows whether before or after: it stays in doubt.
            if leaving._windows and self._turn is leaving._turn and self._readings is not None and not self._busy:
                with contextlib.suppress(*UNREADABLE):
                    self._leave(leaving, self._readings)

    def _leave(self, leaving: Leaving, readings: Readings) -> None:
        size, windows = leaving._size, leaving._windows
        for window in windows:
            window._take_back(size)
        mark, resident = self._read()
        trimmed = leaving._resident - resident < size - TOLERANCE_BYTES and self._leftovers.give_back()
        if trimmed:
            mark, resident = self._read()
        gone = leaving._resident - resident
        # Page faults are read before the first reading and after the last one: none between means that none took any.
        stood_still = leaving._others is not None and leaving._others == self._faults_of_others(readings.page_faults())
        if stood_still and not (trimmed and gone > size + TOLERANCE_BYTES):
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

    def _account_for_given_up(self) -> None:
        self._busy = False
        if self._given_up_meanwhile:
            size, self._given_up_meanwhile = self._given_up_meanwhile, 0
            for window in self._open:
                window._give_up(size, _LEFT)

    def _note_traffic(self, window: Window) -> None:
        """Let a window that opens know what comes and goes just now."""
        window._held, window._opened, window._foreign = self._held, self._held_number, self._foreign_faults()
        if self._leaving:
            window._give_up(self._leaving, _LEFT)
        if self._expected:
            window._expect(self._expected, _ARRIVED)
