"""Decide when to return free memory of the allocator to the kernel before the next task is measured."""

from __future__ import annotations

import sys
import time

from runmem.memory.allocator import trim_free_memory
from runmem.memory.window import TOLERANCE_BYTES

__all__ = ["Leftovers"]

_SHORT_S = 0.005
_PAUSE_FACTOR = 5  # a longer call is not repeated before so many times its duration


class Leftovers:
    """Free memory that earlier tasks may have left in the allocator.

    Trimming costs 0.1 ms if little memory is free, but tens of milliseconds for many small pieces. So it is done only
    if more than `TOLERANCE_BYTES` may be free, and after a call of more than 5 ms not again before five times as long.
    """

    def __init__(self) -> None:
        self._are_likely = True
        self._resident = 0
        self._not_before = 0.0
        self._possible = True
        self._floor = sys.maxsize

    def note_freed(self) -> None:
        """Record that a large block may have been freed."""
        self._are_likely = True

    def expected(self, resident: int) -> bool:
        """Return True if more than the tolerance may be free, in a process with this resident set size."""
        return not self._possible or self._are_likely or resident > self._resident + TOLERANCE_BYTES

    def trim(self) -> bool:
        """Trim the allocator, and call `note_trimmed` next; return False if that is not possible, or not yet."""
        if not self._possible or time.monotonic() < self._not_before:
            return False
        began_s = time.thread_time()
        self._possible = trim_free_memory()
        took_s = time.thread_time() - began_s
        if took_s > _SHORT_S:
            self._not_before = time.monotonic() + _PAUSE_FACTOR * took_s
        return self._possible

    def may_hide(self, own_bytes: int) -> bool:
        """Return True if more than the tolerance may be free, after `trim` has returned False.

        `own_bytes`: the resident set size without the data that is stored for other tasks. Where the allocator cannot
        be trimmed, what it has kept is at most the difference to the smallest of these sizes so far.
        """
        self._floor = min(self._floor, own_bytes)
        return self._possible or own_bytes > self._floor + TOLERANCE_BYTES

    def note_trimmed(self, resident: int) -> None:
        """Record the resident set size after a trim."""
        self._resident, self._are_likely = resident, False
