"""Free the blocks at the beginning of a file while processes append to it.

A run of several days must not fill a node's folder for temporary files. The part of a file that the master has copied
is replaced by a hole: nothing is renamed, writers keep their open files, all other bytes keep their offset, and a kill
leaves the file as it was before or after. The blocks are free; ``ls -l`` still shows the full length.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["free_beginning"]

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)


def free_beginning(path: Path, end: int, begin: int = 0) -> None:
    """Free the blocks of a file that are entirely between the offsets `begin` and `end`.

    Raises OSError if the file cannot be opened, or its file system or the operating system has no holes.

    Limitation: Linux, on ext4, xfs, btrfs or tmpfs; neither NFS before 4.2 nor macOS.
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
