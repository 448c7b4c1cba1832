"""The C library's allocator, as far as it hides from the resident set size what a program takes and gives back."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

__all__ = ["trim_free_memory", "return_freed_memory_at_once", "use_one_arena"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_GLIBC_THRESHOLD = 128 * 1024  # what glibc starts with, for both


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


def trim_free_memory() -> bool:
    """Give back to the kernel what the allocator holds but does not use; return whether that is possible (glibc).

    Memory that an earlier task left in the allocator hides the next task's increment. Costs about 0.1 ms when nothing
    is free, and more the more there is.
    """
    library = _glibc()
    if library is None:
        return False
    library.malloc_trim(0)
    return True


@cache
def use_one_arena() -> bool:
    """Let threads that have not allocated yet take memory from the common heap; return whether that is possible.

    glibc gives every thread a heap of its own, and `trim_free_memory` gives the end of none but the common one back:
    up to 64 MiB of what a task freed would stay. Only one thread of a Python process allocates at most times.
    """
    library = _glibc()
    return library is not None and hasattr(library, "mallopt") and bool(library.mallopt(_M_ARENA_MAX, 1))


@cache
def return_freed_memory_at_once() -> bool:
    """Make every block of 128 KiB or more return to the kernel when it is freed; return whether that is possible.

    glibc starts like that, but whenever such a block is freed it raises the limit to the size of that block, up to
    32 MiB: from the second call on, a list of 24 MB comes from the heap, and `del` no longer lowers the resident set
    size. Setting the limit by hand, to the value that it had at first, ends the raising.

    Notes
    -----
    Holds for the rest of the process: glibc has no way back to a limit that moves. Programs that take and free blocks
    between 128 KiB and 32 MiB at a high rate become slower, since every block is fetched from the kernel anew.
    """
    library = _glibc()
    if library is None or not hasattr(library, "mallopt"):
        return False
    set_both = [library.mallopt(which, _GLIBC_THRESHOLD) for which in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(set_both)
