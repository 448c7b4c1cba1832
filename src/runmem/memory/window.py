"""A window of time in which memory is measured, and what it measured."""

from __future__ import annotations

import sys
import threading
from typing import NamedTuple

from runmem.units import MIB, format_bytes

__all__ = ["PeakReading", "Window", "TOLERANCE_BYTES"]

TOLERANCE_BYTES = MIB
"""An increment is called clear if it is known to within this."""

_CLEAR_BYTES = TOLERANCE_BYTES * 3 // 4  # the rest is for what the interpreter and small messages take


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
    increment_bytes : int or None
        The most that what runs inside the window added itself: what the process holds for others (`held.py`), and what
        came and went of that meanwhile, is left out. Known to within `TOLERANCE_BYTES`, or `increment_unclear` says so.
    increment_unclear : str or None
        Why the increment is not known so well, and between which values it lies; `increment_bytes` is then the higher.
    held_bytes : int or None
        How much was held for others when the peak was reached, as it was told to `held.py`.
    """

    base_bytes: int | None
    peak_bytes: int | None
    end_bytes: int | None
    method: str | None
    shared: bool
    lifetime_peak_bytes: int | None
    reason: str | None
    increment_bytes: int | None = None
    increment_unclear: str | None = None
    held_bytes: int | None = None


class Window:
    """An open measurement. Opaque but for `base_bytes`, the resident set size at its start (None: not readable).

    What of the resident set size is not the window's own is its level: the base, less what of that was given up since,
    and what came for others. Where it is not known to the byte it lies between `_level` and `_level + _slack`.
    """

    __slots__ = (
        "base_bytes", "_thread", "_within", "_peak", "_floor", "_exact", "_shared", "_reason",
        "_level", "_slack", "_least", "_most", "_held", "_opened", "_foreign", "_doubts", "_hidden",
    )  # fmt: skip

    def __init__(self, within: object) -> None:
        self.base_bytes: int | None = None
        self._thread = threading.get_ident()
        self._within = within
        self._peak: int | None = None
        self._floor = sys.maxsize  # a mark up to this one may be older than the window
        self._exact = False
        self._shared = False
        self._reason: str | None = None
        self._level = 0
        self._slack = 0
        self._least = self._most = 0  # what was added at most is at least and at most this
        self._held = 0  # for others, at the peak
        self._opened = 0  # number of the first thing that is held from now on
        self._foreign = 0  # page faults of threads that work for others, when these were known to hold nothing untold
        self._doubts: tuple[str, ...] = ()
        self._hidden: str | None = None  # why something may hide a part of the increment

    def _fold(self, mark: int | None, resident: int, held: int) -> None:
        highest = resident
        if mark is not None and mark > self._floor:
            self._exact = True
            highest = max(mark, resident)
        if self._peak is None or highest > self._peak:
            self._peak = highest
            self._held = held
        added = highest - self._level
        if added > self._most:
            self._most = added
        if added - self._slack > self._least:
            self._least = added - self._slack

    def _give_up(self, size: int, reason: str, uncertain: int | None = None) -> None:
        """Lower the level by `size`, of which `uncertain` bytes, None for all, may be there still."""
        self._level -= size
        self._slack += size if uncertain is None else uncertain
        self._doubt(reason)

    def _take_back(self, size: int) -> None:
        """Take back what `_give_up` did, all of which was uncertain."""
        self._level += size
        self._slack -= size

    def _expect(self, size: int, reason: str) -> None:
        """Let the level rise by up to `size` from now on."""
        self._slack += size
        self._doubt(reason)

    def _came(self, size: int) -> None:
        """Let what was expected be there."""
        self._level += size
        self._slack -= size

    def _doubt(self, reason: str) -> None:
        if reason not in self._doubts:
            self._doubts += (reason,)

    def _overlaps(self, other: Window) -> bool:
        if self._thread != other._thread:
            return True
        return self._within is not None and other._within is not None and self._within is not other._within

    def _reading(self, end_bytes: int | None, lifetime_peak_bytes: int | None, reason: str | None) -> PeakReading:
        known = self.base_bytes is not None and self._peak is not None
        method = None if self._peak is None else "hwm" if self._exact else "sampled"
        return PeakReading(
            self.base_bytes, self._peak, end_bytes, method, self._shared, lifetime_peak_bytes, reason,
            self._most if known else None,
            self._unclear() if known and (self._shared or self._doubts or self._hidden) else None,
            self._held if known else None,
        )  # fmt: skip

    def _unclear(self) -> str | None:
        """Return why the increment is unclear; None if it is clear in spite of all doubts."""
        if self._shared:
            return "another task ran in the process at the same time"
        if self._hidden is not None:
            return self._hidden
        if self._most - self._least <= _CLEAR_BYTES:
            return None
        between = f"between {format_bytes(self._least)} and {format_bytes(self._most)}"
        return f"{between}: {'; '.join(self._doubts)}"
