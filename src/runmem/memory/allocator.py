"""Settings of the C library's allocator, which may hide from the resident set size what a program takes and frees."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from functools import cache

__all__ = ["trim_free_memory", "return_freed_memory_at_once", "use_one_arena"]

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_GLIBC_THRESHOLD = 128 * 1024  # glibc's initial value of both


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") and not _is_replaced(library) else None


class _SymbolInfo(ctypes.Structure):
    """``Dl_info`` of the C library."""

    _fields_ = (
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p), ("address", ctypes.c_void_p),
    )  # fmt: skip


def _is_replaced(process: ctypes.CDLL) -> bool:
    """Return True if another allocator, such as jemalloc by ``LD_PRELOAD``, works in place of glibc's."""
    try:
        glibc = ctypes.CDLL("libc.so.6")
        used, original = _file_of_malloc(process, glibc), _file_of_malloc(glibc, glibc)
    except (OSError, AttributeError):
        return False
    program = os.path.realpath("/proc/self/exe")  # it may have a stub of its own that calls the library's
    return used is not None and original is not None and used not in (original, program)


def _file_of_malloc(library: ctypes.CDLL, glibc: ctypes.CDLL) -> str | None:
    """Return the file with the function that `library` finds as ``malloc``; None if that is not known."""
    info = _SymbolInfo()
    address = ctypes.cast(library.malloc, ctypes.c_void_p)
    return os.path.realpath(os.fsdecode(info.file)) if glibc.dladdr(address, ctypes.byref(info)) and info.file else None


def trim_free_memory() -> bool:
    """Return the allocator's free memory to the kernel; return True if that is possible (glibc).

    Free memory that an earlier task left in the allocator hides the next task's increment. Costs about 0.1 ms if
    nothing is free, and more otherwise. pyarrow has an allocator of its own.
    """
    pool = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
    if pool is not None:
        with contextlib.suppress(Exception):  # of any version of the library
            pool().release_unused()
    library = _glibc()
    if library is None:
        return False
    library.malloc_trim(0)
    return True


@cache
def use_one_arena() -> bool:
    """Make new threads allocate from the main heap; return True if that is possible.

    glibc gives every thread its own heap, and `trim_free_memory` returns the end of the main heap only: up to 64 MiB
    that a task freed would stay. In a Python process rarely more than one thread allocates at a time.
    """
    library = _glibc()
    return library is not None and hasattr(library, "mallopt") and bool(library.mallopt(_M_ARENA_MAX, 1))


@cache
def return_freed_memory_at_once() -> bool:
    """Return every block of 128 KiB or more to the kernel when it is freed; return True if that is possible.

    glibc does so at first, but whenever such a block is freed it raises the threshold to the size of that block, up to
    32 MiB: from the second call on, a list of 24 MB comes from the heap, and `del` no longer lowers the resident set
    size. Setting the threshold, even to its initial value, makes it constant.

    This lasts for the rest of the process: glibc cannot return to a dynamic threshold. Programs that allocate and free
    blocks between 128 KiB and 32 MiB at a high rate become slower, since every block comes from the kernel.
    """
    library = _glibc()
    if library is None or not hasattr(library, "mallopt"):
        return False
    set_both = [library.mallopt(which, _GLIBC_THRESHOLD) for which in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(set_both)
