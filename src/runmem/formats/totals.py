"""Look up a total in a trace that is still being written, without reading the whole of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from runmem.units import MIB

__all__ = ["KEPT_BEGINNING", "first_kept", "offset_before", "total_at"]

KEPT_BEGINNING = 4096  # of a trace, that is never freed: its first line
_BLOCK = 65536  # more than a tick of a node with a thousand workers
_TOTAL = re.compile(rb"^MEM (\d+\.\d+) (\d+\.\d+)$", re.MULTILINE)


def total_at(path: Path | str, time_s: float) -> int | None:
    """Return the total in bytes that a trace had at `time_s`: its last reading until then, or else its first.

    A trace whose beginning was freed (`runmem.store.freeing`) has no first one, and no total before what it still has.

    For the two memories of a bracket: `mprof plot` draws them as points of the total's own curve, so the memory of one
    worker would show as a fall of the whole node. Reads some 64 KiB blocks, by bisection, however long the trace is.

    Parameters
    ----------
    time_s : float
        Seconds since the epoch.

    Returns
    -------
    int or None
        None when there is no file, no total in it, or none from so long ago.

    Notes
    -----
    Assumption: totals are in the order of their times, as one sampler writes them.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        begin = first_kept(descriptor, KEPT_BEGINNING)
        return _bisect(descriptor, begin if begin > KEPT_BEGINNING else 0, time_s)
    finally:
        os.close(descriptor)


def first_kept(descriptor: int, begin: int = 0) -> int:
    """Return the first offset from `begin` on that was not freed; `begin` itself where none was, or at the end."""
    try:
        return os.lseek(descriptor, begin, os.SEEK_DATA)
    except (OSError, AttributeError):  # nothing is there; a system that knows no holes
        return begin


def offset_before(path: Path | str, time_s: float) -> int:
    """Return an offset in a whole trace behind which is all that was read from `time_s` on, and little else.

    What stands there first may be the rest of a line. 0 where nothing can be told.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _narrowed(descriptor, 0, time_s)[0]
    finally:
        os.close(descriptor)


def _narrowed(descriptor: int, begin: int, time_s: float) -> tuple[int, int]:
    """Return offsets around the last total until `time_s`, one block apart."""
    low, high = begin, os.fstat(descriptor).st_size
    while high - low > _BLOCK:
        middle = (low + high) // 2
        found = _TOTAL.search(os.pread(descriptor, _BLOCK, middle), 1)  # from 1: the first line there may be cut
        if found is not None and float(found.group(2)) <= time_s:
            low = middle
        else:
            high = middle
    return low, high


def _bisect(descriptor: int, begin: int, time_s: float) -> int | None:
    low, high = _narrowed(descriptor, begin, time_s)
    total = None
    for found in _TOTAL.finditer(os.pread(descriptor, high - low + _BLOCK, low), 1 if low else 0):
        if float(found.group(2)) > time_s and (total is not None or begin == low > 0):
            break
        total = round(float(found.group(1)) * MIB)
    return total
