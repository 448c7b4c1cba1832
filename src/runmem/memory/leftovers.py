"""What earlier tasks left in the allocator is given back before the next one is measured, if that is worth the time."""

from __future__ import annotations

import time

from runmem.memory.allocator import trim_free_memory
from runmem.memory.window import TOLERANCE_BYTES

__all__ = ["Leftovers"]

_SHORT_S = 0.005
_SHARE = 5  # what takes longer takes at most one part in so many of the time


class Leftovers:
    """Decide when the allocator is asked to give back what it holds and does not use.

    Asking costs 0.1 ms where little is free, but tens of milliseconds where much is, in small pieces. So it is asked
    only if more than `TOLERANCE_BYTES` may be left, and where it took more than 5 ms not again before five times that.
    """

    def __init__(self) -> None:
        self._may_be = True
        self._resident = 0
        self._not_before = 0.0
        self._possible = True

    def may_be(self) -> None:
        """Note that something larger may have been freed."""
        self._may_be = True

    def expected(self, resident: int) -> bool:
        """Tell whether more than a little may be left, in a process of this resident set size."""
        return self._possible and (self._may_be or resident > self._resident + TOLERANCE_BYTES)

    def give_back(self) -> bool:
        """Ask the allocator; False if it is too early to ask again. Then say `gave_back`."""
        if time.monotonic() < self._not_before:
            return False
        began_s = time.thread_time()
        self._possible = trim_free_memory()
        took_s = time.thread_time() - began_s
        if took_s > _SHORT_S:
            self._not_before = time.monotonic() + _SHARE * took_s
        return True

    def gave_back(self, resident: int) -> None:
        """Note the resident set size after that."""
        self._resident, self._may_be = resident, False
