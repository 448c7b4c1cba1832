"""What the sampler found for the tasks of a process: the peak of its children, in ``<spool>/sampled-<pid>.bin``.

::

    process: makes the file; counts its windows ──┐              ┌──> reads the peaks at the end of a window
                                                  v              │
    file:    8 bytes: number of the window  |  readings, window, peaks  |  the same again
                                  │                           ^
    sampler: reads it, and begins anew if it has changed ─────┘ one write a tick, while there are children

A task thus gets what was sampled in its own time. The process reads the number of readings without a system call, and
nothing more as long as that does not change. The peaks are there twice: two equal copies were not read half written.

The sampler also loads this module, without the package: it imports only a few modules of the standard library.
"""

from __future__ import annotations

import mmap
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PeakReader", "PeakWriter", "SampledPeak", "file_of"]

_WINDOW = struct.Struct("=Q")
_PEAKS = struct.Struct("=QQqq?96s")
_SIZE = _WINDOW.size + 2 * _PEAKS.size
_NONE = -1
_READ_TRIES = 5


def file_of(spool_root: Path | str, pid: int) -> str:
    """Return the path of the file of process `pid`."""
    return os.path.join(spool_root, f"sampled-{pid}.bin")


class SampledPeak:
    """The peaks of a window.

    Attributes
    ----------
    children_bytes : int or None
        Most memory of the child processes together; None: none was seen, or one could not be read.
    command : bytes
        Command of the children with the largest share of it.
    is_unreadable : bool
        Whether the memory of a child could not be read.
    gpu_bytes : int or None
        Most memory on GPUs of the process and its children; None if unknown.
    """

    __slots__ = ("children_bytes", "command", "is_unreadable", "gpu_bytes")

    def __init__(
        self, children_bytes: int | None = None, command: bytes = b"", is_unreadable: bool = False,
        gpu_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self.children_bytes = children_bytes
        self.command = command
        self.is_unreadable = is_unreadable
        self.gpu_bytes = gpu_bytes

    def add(self, other: SampledPeak) -> bool:
        """Take the higher peaks of both; what could not be read once is unknown. Return whether this has changed."""
        changed = other.is_unreadable and not self.is_unreadable
        self.is_unreadable = self.is_unreadable or other.is_unreadable
        if other.children_bytes is not None and other.children_bytes > (self.children_bytes or 0):
            self.children_bytes, self.command = other.children_bytes, other.command
            changed = True
        if other.gpu_bytes is not None and (self.gpu_bytes is None or other.gpu_bytes > self.gpu_bytes):
            self.gpu_bytes = other.gpu_bytes
            changed = True
        return changed


class PeakWriter:
    """Write the peaks of one process, in the sampler. Raises OSError if that has made no file."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._window = b""
        self._readings = 0
        self._peak = SampledPeak()

    def add(self, reading: SampledPeak) -> None:
        """Add the reading of a tick."""
        window = os.pread(self._descriptor, _WINDOW.size, 0)
        if window != self._window:
            self._window, self._peak = window, SampledPeak()
            self._peak.add(reading)
        elif not self._peak.add(reading):
            return
        self._readings += 1
        peak = self._peak
        children = _NONE if peak.children_bytes is None else peak.children_bytes
        gpu = _NONE if peak.gpu_bytes is None else peak.gpu_bytes
        number = _WINDOW.unpack(window)[0]
        peaks = _PEAKS.pack(self._readings, number, children, gpu, peak.is_unreadable, peak.command)
        os.pwrite(self._descriptor, peaks + peaks, _WINDOW.size)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class PeakReader:
    """Read the peaks of this process. Raises OSError if the file cannot be made."""

    def __init__(self, path: Path | str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, bytes(_SIZE))  # not a hole: on a full disk writing to that would end the process
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._readings = 0
        self._window = 0

    def cut(self) -> SampledPeak | None:
        """Begin a new window; return the peaks of the one before, None if nothing was sampled in it."""
        if _WINDOW.unpack_from(self._map, _WINDOW.size)[0] == self._readings:
            return None
        for _ in range(_READ_TRIES):
            one, other = self._map[_WINDOW.size : _WINDOW.size + _PEAKS.size], self._map[_WINDOW.size + _PEAKS.size :]
            if one == other:
                break
        else:
            return None
        self._readings, window, children, gpu, is_unreadable, command = _PEAKS.unpack(one)
        before, self._window = self._window, self._window + 1
        _WINDOW.pack_into(self._map, 0, self._window)
        if window != before:  # the sampler has not seen yet that this window had begun
            return None
        name = command.rstrip(b"\0")
        return SampledPeak(
            None if children < 0 else children, name, is_unreadable, None if gpu < 0 else gpu
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._map.close()
