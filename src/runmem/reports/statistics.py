"""Statistics of measured values."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["percentile"]


def percentile(values: Iterable[int], percent: float) -> int | None:
    """Return the nearest-rank percentile: the smallest value that at least `percent` % of the values do not exceed.

    It is always one of the values; of fewer than 20 values the 95th percentile is therefore the maximum. None for no
    values.

    Raises
    ------
    ValueError
        If `percent` is not above 0 and at most 100.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is not a percentage above 0 and at most 100")
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]
