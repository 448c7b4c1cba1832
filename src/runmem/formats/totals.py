"""Look up a total in a trace that is still being written, without reading the whole trace."""

from __future__ import annotations

import os
import re
from pathlib import Path

from runmem.units import MIB

__all__ = ["KEPT_BEGINNING", "first_kept", "offset_before", "total_at"]

KEPT_BEGINNING = 4096  # bytes with the first line of a trace, which are never freed
_BLOCK = 65536  # more than the lines of one tick with a thousand workers
_TOTAL = re.compile(rb"^MEM (\d+\.\d+) (\d+\.\d+)$", re.MULTILINE)


def total_at(path: Path | str, time_s: float) -> int | None:
    """Return the total of a trace at `time_s`, in bytes: its last reading until then, or otherwise its first.

    It is used for the two memories of a bracket, which `mprof plot` draws on the curve of the totals. Reads some 64 KiB
    blocks, by bisection, however long the trace is.

    Parameters
    ----------
    time_s : float
        Seconds since the epoch.

    Returns
    -------
    int or None
        None if there is no file or no total, or if that part of the trace was freed (`runmem.store.freeing`).

    Notes
    -----
    Assumption: the totals are in chronological order, as a sampler writes them.
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
    """Return the first offset from `begin` on that was not freed; `begin` if nothing was, or at the end of the file."""
    try:
        return os.lseek(descriptor, begin, os.SEEK_DATA)
    except (OSError, AttributeError):  # the end of the file; a system without holes
        return begin


def offset_before(path: Path | str, time_s: float) -> int:
    """Return an offset in a whole trace shortly before the first reading from `time_s` on; 0 if it cannot be found.

    The offset may be inside a line.
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
    """Return two offsets around the last total until `time_s`, one block apart."""
    low, high = begin, os.fstat(descriptor).st_size
    while high - low > _BLOCK:
        middle = (low + high) // 2
        found = _TOTAL.search(os.pread(descriptor, _BLOCK, middle), 1)  # from 1, since the first line may be incomplete
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
