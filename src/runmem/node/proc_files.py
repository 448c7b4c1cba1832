"""Read files below ``/proc``. Standard library only, and without the package: see `runmem.node`."""

from __future__ import annotations

import os

__all__ = ["command_line", "parent_of", "read_file", "start_of"]

_MOST_BYTES = 4096


def read_file(path: str, folder: int | None = None) -> bytes:
    """Return the first 4 KiB of a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)


def parent_of(proc: str, pid: int) -> int | None:
    """Return the parent of a process, or of the process of a thread; None if it has ended."""
    try:
        return int(_stat_fields(read_file(f"{proc}/{pid}/stat"))[1])
    except (OSError, ValueError, IndexError):
        return None


def start_of(folder: int) -> int:
    """Return the start of the process with this open folder, in clock ticks. Raises OSError, ValueError, IndexError."""
    return int(_stat_fields(read_file("stat", folder))[19])


def command_line(proc: str, pid: int) -> bytes:
    """Return the command line of a process, its words ended by zero bytes; empty if it cannot be read."""
    try:
        return read_file(f"{proc}/{pid}/cmdline")
    except OSError:
        return b""


def _stat_fields(stat: bytes) -> list[bytes]:
    """Return the fields of a ``stat`` line from the state on; the name before may contain spaces and brackets."""
    return stat.rpartition(b")")[2].split()
