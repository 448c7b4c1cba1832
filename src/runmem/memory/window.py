"""A window of time in which memory is measured, and its reading."""

from __future__ import annotations

import sys
import threading
from typing import NamedTuple

from runmem.units import MIB, format_bytes

__all__ = ["PeakReading", "Window", "TOLERANCE_BYTES"]

TOLERANCE_BYTES = MIB
"""An increment is clear if it is known to this precision."""

_CLEAR_BYTES = TOLERANCE_BYTES * 3 // 4  # the rest is for the interpreter and small messages


class PeakReading(NamedTuple):
    """The measurement of a window.

    Attributes
    ----------
    base_bytes, peak_bytes, end_bytes : int or None
        Resident set size of the process at the start, its highest value inside the window, and at the stop.
    method : str or None
        ``hwm`` (the kernel's high-water mark, exact) or ``sampled`` (largest of the readings, a lower bound); None if
        nothing could be read.
    shared : bool
        Whether a window of another thread overlapped this one: then the peak is an upper bound.
    lifetime_peak_bytes : int or None
        Highest resident set size since the process started; None without a high-water mark.
    reason : str or None
        Why the peak is only sampled, or why a value is missing.
    increment_bytes : int or None
        The most memory that the code inside the window itself added, without the data that the process stores for other
        tasks (`stored_data.py`). Accurate to `TOLERANCE_BYTES` unless `increment_unclear` is set.
    increment_unclear : str or None
        The reason why the increment may be wrong by more, with its bounds; `increment_bytes` is then the upper one.
    held_bytes : int or None
        Data stored for other tasks when the peak was reached, as reported to `stored_data.py`.
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

    @property
    def how(self) -> str | None:
        """The method, followed by ``, shared`` if so; None without a peak."""
        return None if self.method is None else f"{self.method}{', shared' * self.shared}"

    def followed_by(self, later: PeakReading, kept_bytes: int) -> PeakReading:
        """Return the reading of two windows of the same code as one; what happened between them is not in it.

        Parameters
        ----------
        later : PeakReading
            Of the second window.
        kept_bytes : int
            The memory of the code's own that it had at the end of the first.
        """
        known = self.increment_bytes is not None and later.increment_bytes is not None
        higher = self if (self.peak_bytes or 0) >= (later.peak_bytes or 0) else later
        return PeakReading(
            self.base_bytes,
            higher.peak_bytes,
            later.end_bytes,
            "sampled" if "sampled" in (self.method, later.method) else higher.method,
            self.shared or later.shared,
            later.lifetime_peak_bytes,
            self.reason or later.reason,
            max(self.increment_bytes or 0, kept_bytes + (later.increment_bytes or 0)) if known else None,
            self.increment_unclear or later.increment_unclear,
            higher.held_bytes,
        )


class Window:
    """An open measurement; only `base_bytes`, the resident set size at its start (None if unreadable), is public.

    The level is the part of the resident set size that is not the window's own: the base, less the data released since,
    plus the data received for other tasks. It lies between `_level` and `_level + _slack`.
    """

    __slots__ = (
        "base_bytes", "_thread", "_within", "_peak", "_floor", "_exact", "_shared", "_reason",
        "_level", "_slack", "_least", "_most", "_stored_bytes", "_last_number", "_other_faults", "_doubts", "_hidden",
        "_line_peak",
    )  # fmt: skip

    def __init__(self, within: object) -> None:
        self.base_bytes: int | None = None
        self._thread = threading.get_ident()
        self._within = within
        self._peak: int | None = None
        self._floor = sys.maxsize  # a high-water mark up to this size may be older than the window
        self._exact = False
        self._shared = False
        self._reason: str | None = None
        self._level = 0
        self._slack = 0
        self._least = self._most = 0  # bounds of the increment
        self._stored_bytes = 0  # at the peak
        self._last_number = 0  # number of the last item stored before the window opened
        # Page-fault count of the other threads at the last moment when all data of other tasks was accounted for.
        self._other_faults = 0
        self._doubts: tuple[str, ...] = ()
        self._line_peak = 0  # since the last `PeakMeter.line_peak`
        self._hidden: str | None = None  # why something may hide a part of the increment

    def _fold(self, mark: int | None, resident: int, stored_bytes: int) -> None:
        highest = resident
        if mark is not None and mark > self._floor:
            self._exact = True
            highest = max(mark, resident)
        if self._peak is None or highest > self._peak:
            self._peak = highest
            self._stored_bytes = stored_bytes
        if highest > self._line_peak:
            self._line_peak = highest
        added = highest - self._level
        if added > self._most:
            self._most = added
        if added - self._slack > self._least:
            self._least = added - self._slack

    def _release(self, size: int, reason: str, uncertain: int | None = None) -> None:
        """Lower the level by `size`, of which `uncertain` bytes (None for all) may still be in memory."""
        self._level -= size
        self._slack += size if uncertain is None else uncertain
        self._doubt(reason)

    def _expect(self, size: int, reason: str) -> None:
        """Allow for a rise of the level by up to `size` from now on."""
        self._slack += size
        self._doubt(reason)

    def _confirm(self, size: int) -> None:
        """Count `size` bytes, uncertain until now, as certainly in memory."""
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
            self._stored_bytes if known else None,
        )  # fmt: skip

    def kept_bytes(self, end_bytes: int | None) -> int:
        """Return how much memory the code in the window has kept, given the size at its end; 0 if unknown."""
        return 0 if end_bytes is None or self.base_bytes is None else max(0, end_bytes - self._level)

    def _unclear(self) -> str | None:
        """Return the reason why the increment is unclear; None if it is clear in spite of all doubts."""
        if self._shared:
            return "another task ran in the process at the same time"
        if self._hidden is not None:
            return self._hidden
        if self._most - self._least <= _CLEAR_BYTES:
            return None
        between = f"between {format_bytes(self._least)} and {format_bytes(self._most)}"
        return f"{between}: {'; '.join(self._doubts)}"
