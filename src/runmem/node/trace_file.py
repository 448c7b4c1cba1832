"""Append to a `.dat` trace: whole lines, one write for each tick, robust to a full disk.

Standard library only, and without the package: see `runmem.node`. The lines are those of `runmem.formats.mprof`.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["TraceFile"]

_LONGEST_TICK = 65536
_KEPT_BEGINNING = 4096  # bytes of a trace that are never freed


class TraceFile:
    """Append ticks to a trace; never raise because the disk is full or broken.

    After an incomplete write its rest is written first. Ticks without room are dropped, and once there is room again a
    line ``LOST <lines> <epoch>`` records the number of missing lines.

    Parameters
    ----------
    path : str
        The file, created at the first tick with mode 0600.
    header : bytes
        First lines of a new file; not repeated if the file has them already.
    """

    def __init__(self, path: str, header: bytes) -> None:
        self._path = path
        self._header = header
        self._descriptor: int | None = None
        self._rest = b""
        self._torn = 0  # bytes of the incomplete line at the end of the file, which `_rest` completes
        self.lost_lines = 0

    def append(self, lines: bytes, time_s: float) -> None:
        """Write the lines of the tick at `time_s` (seconds since the epoch), or count them as lost."""
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            if self._rest:
                self._write(self._descriptor, self._rest)
            if not self._rest:
                lost = b"LOST %d %.4f\n" % (self.lost_lines, time_s) if self.lost_lines else b""
                self._write(self._descriptor, self._header + lost + lines)
                self._header = b""
                self.lost_lines = 0
                return
        except OSError:  # the disk is full
            pass
        self.lost_lines += lines.count(b"\n")

    def close(self) -> None:
        """Close the file. An incomplete last line is removed, unless another process appended after it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            if self._rest:
                self._write(descriptor, self._rest)
        with contextlib.suppress(OSError):
            size = os.fstat(descriptor).st_size
            if self._rest and os.lseek(descriptor, 0, os.SEEK_CUR) == size:
                os.ftruncate(descriptor, size - self._torn)
        os.close(descriptor)

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _cut_torn_end(descriptor)
        begin = self._header[:_KEPT_BEGINNING]
        if begin and os.pread(descriptor, len(begin), 0) == begin:
            self._header = b""
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> None:
        """Write `data` with one call and store the unwritten rest. Raises OSError if nothing was written."""
        written = os.write(descriptor, data)
        self._rest = data[written:]
        newline = data.rfind(b"\n", 0, written)
        self._torn = written - newline - 1 if newline >= 0 else self._torn + written


def _cut_torn_end(descriptor: int) -> None:
    """Remove an incomplete last line, which a sampler killed with a full disk may have left."""
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, _LONGEST_TICK, max(0, size - _LONGEST_TICK))
    torn = len(end) - end.rfind(b"\n") - 1
    if torn and torn < _LONGEST_TICK:
        os.ftruncate(descriptor, size - torn)
