"""Whose memory a peak in metadata is: the call's own, or possibly that of an earlier one in the same process."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CONTAMINATED", "OWN", "SHARED", "owner_of_peak", "owners_of_peaks"]

OWN = "own"
"""The peak was reached during the call."""

CONTAMINATED = "contaminated"
"""The highest of the process so far, which was reached before the call: an upper bound of the call's peak."""

SHARED = "shared"
"""A call in another thread overlapped: an upper bound too."""


def owner_of_peak(size: float, start_size: object, method: str | None = None) -> str | None:
    """Return whose peak it is, None if that is not known.

    Parameters
    ----------
    size : float
        The peak at the end of a call.
    start_size : float or None
        The value at its start. LSST's timer writes the highest of the process so far at both: if it rose, it rose
        during the call.
    method : str, optional
        Method of a peak of runmem, which is the call's own however it started.
    """
    if method is not None and SHARED in method:
        return SHARED
    if method is not None and CONTAMINATED not in method:
        return OWN
    if isinstance(start_size, (int, float)) and not isinstance(start_size, bool):
        return OWN if size > start_size else CONTAMINATED
    return None if method is None else CONTAMINATED


def owners_of_peaks(sizes: Sequence[float], start_sizes: Sequence[object], methods: Sequence[str]) -> list[str | None]:
    """Return whose peak each of several calls has; starts and methods that are not one for each call are not used."""
    count = len(sizes)
    starts = start_sizes if len(start_sizes) == count else [None] * count
    known = methods if len(methods) == count else [None] * count
    return [owner_of_peak(*call) for call in zip(sizes, starts, known, strict=True)]
