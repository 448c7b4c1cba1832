"""Gives the room of a file's beginning back to the file system, while processes go on appending to it.

A run that lasts days must not fill the folder for temporary files of a node. What the master has of a file is taken out
of it as a hole: nothing is renamed, no writer must open another file, every byte that is left stays at its offset, and
a kill at any moment leaves the file as it was before or after. The blocks are free; ``ls -l`` still shows the length.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["free_beginning"]

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)


def free_beginning(path: Path, end: int, begin: int = 0) -> None:
    """Free the blocks of a file between the offsets `begin` and `end`; those that are in part outside are kept.

    Raises
    ------
    OSError
        If the file cannot be opened, or its file system (or this system) cannot do it.

    Notes
    -----
    Limitation: Linux, on file systems with holes: ext4, xfs, btrfs, tmpfs; neither NFS before 4.2 nor macOS.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        block = max(4096, os.fstat(fd).st_blksize)
        first, last = -(-begin // block) * block, end // block * block
        if last > first:
            _punch(fd, first, last - first)
    finally:
        os.close(fd)


def _punch(fd: int, offset: int, size: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if fallocate is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(offset), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
