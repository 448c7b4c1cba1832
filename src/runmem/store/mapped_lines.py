"""Whole lines that survive the death of their writer, without a system call for each.

A writer keeps its newest lines in a small file that is mapped into its memory, and appends them to its file of lines
when that is full. What was put there is in the page cache at once, as after a ``write``, and SIGKILL takes nothing of
it. `read_lines` reads both as one.

The mapped file: a header, which says at what size of the file of lines its own lines follow, then those lines, then
zero bytes. Nothing in it changes place but when the lines move, and then the header changes too: a reader that finds
the same header before and after has read lines that belong together. It takes what stands before the first zero byte,
so that it never sees half of what is just being put there.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

from runmem.store.append import LineAppender

__all__ = ["MappedLines", "read_lines"]

SUFFIX = ".newest"
_SIZE_BYTES = 65536
_HEADER_BYTES = 32


class MappedLines:
    """Take lines as `LineAppender` does, at a third of a microsecond a time instead of two.

    Parameters
    ----------
    path : Path
        The file of lines; the mapped one stands beside it.

    Assumptions: one writer process a file; nobody cuts the mapped file short. Limitations: where it cannot be made (a
    full disk: its room is reserved, since a page that has none would end the process), and once lines could not be
    moved out of it, every batch is a write again. It counts in the resident set size of the process, from the start
    and always the same (64 KiB).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineAppender(path)
        self._lock = threading.Lock()
        self._newest: mmap.mmap | None = None
        self._end = _HEADER_BYTES
        try:
            self._newest = self._map()
            self._begin_at(path.stat().st_size)
        except (OSError, AttributeError):  # no room; a system that cannot reserve it
            _newest_of(path).unlink(missing_ok=True)

    @property
    def lost_lines(self) -> int:
        """Lines that could not be written."""
        return self._file.lost_lines

    def write(self, lines: bytes) -> bool:
        """Append `lines` (whole, each ending with a newline); return whether they are safe."""
        with self._lock:
            newest, end = self._newest, self._end + len(lines)
            if newest is None:
                return self._file.write(lines)
            if end >= _SIZE_BYTES:  # the last byte stays zero
                self._move()
                newest, end = self._newest, self._end + len(lines)
                if newest is None or end >= _SIZE_BYTES:
                    return self._append(lines)
            newest[self._end : end] = lines
            self._end = end
            return True

    def close(self) -> None:
        """Move what is mapped to the file of lines and close both; further writes count as lost."""
        with self._lock:
            if self._newest is not None and self._end > _HEADER_BYTES:
                self._file.write(self._newest[_HEADER_BYTES : self._end])
            self._unmap()
            self._file.close()

    def _map(self) -> mmap.mmap:
        descriptor = os.open(_newest_of(self.path), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE_BYTES)
            return mmap.mmap(descriptor, _SIZE_BYTES)
        finally:
            os.close(descriptor)

    def _begin_at(self, size_bytes: int) -> None:
        assert self._newest is not None
        self._newest[_HEADER_BYTES:] = bytes(_SIZE_BYTES - _HEADER_BYTES)
        self._newest[:_HEADER_BYTES] = b"%0*d\n" % (_HEADER_BYTES - 1, size_bytes)
        self._end = _HEADER_BYTES

    def _move(self) -> None:
        """Append what is mapped to the file of lines; a reader finds it in one of them at any moment."""
        if self._newest is None or self._end == _HEADER_BYTES:
            return
        self._append(self._newest[_HEADER_BYTES : self._end])

    def _append(self, lines: bytes) -> bool:
        """Write to the file of lines; where that fails, which it counts, map no more."""
        safe = self._file.write(lines)
        if not safe:
            self._unmap()
        elif self._newest is not None:
            self._begin_at(self.path.stat().st_size)
        return safe

    def _unmap(self) -> None:
        if self._newest is not None:
            self._newest.close()
            self._newest = None
            _newest_of(self.path).unlink(missing_ok=True)


def _newest_of(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def read_lines(path: str, offset: int, most_bytes: int) -> bytes:
    """Return the whole lines of a file from `offset` on, about `most_bytes` of them, and the newest, which are mapped.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    begins_at, newest = _read_newest(path + SUFFIX)
    with open(path, "rb") as file:  # after the newest: what moves meanwhile is in both and not in neither
        file.seek(offset)
        data = file.read(most_bytes)
        while data and b"\n" not in data:  # one line longer than a portion
            rest = file.read(most_bytes)
            if not rest:
                return b""
            data += rest
    size = offset + len(data)
    if newest and begins_at <= size <= begins_at + len(newest):
        data += newest[size - begins_at :]
    return data[: data.rfind(b"\n") + 1]


def _read_newest(path: str) -> tuple[int, bytes]:
    """Return the size of the file of lines at which the mapped lines begin, and these lines."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0, b""
    try:
        header = os.pread(descriptor, _HEADER_BYTES, 0)
        lines = os.pread(descriptor, _SIZE_BYTES - _HEADER_BYTES, _HEADER_BYTES)
        if header != os.pread(descriptor, _HEADER_BYTES, 0):
            return 0, b""  # they moved just now; read the next time
        return int(header), lines[: max(lines.find(b"\0"), 0)]
    except (OSError, ValueError):
        return 0, b""
    finally:
        os.close(descriptor)
