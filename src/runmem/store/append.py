"""An append-only file of whole lines that survives the death of its writer and a full disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["LineAppender", "read_lines"]


class LineAppender:
    """Append whole lines, each batch with a single ``write``; never raise because the disk is full.

    What was written survives SIGKILL of the writer, because the page cache does. When a write is cut short, the rest is
    kept and written first next time, so that no line is ever torn in the middle of the file; lines that cannot be
    written at all are counted in `lost_lines`.

    Parameters
    ----------
    path : Path
        The file; made with mode 0600.

    Assumptions: one writer process a file, or batches so small that the kernel appends them whole. Limitations: a write
    that was cut short by a full disk leaves the file with half a line at its end until there is room again; readers
    take only what ends with a newline.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost_lines = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, lines: bytes) -> bool:
        """Append `lines` (whole, each ending with a newline); return whether they are in the file."""
        with self._lock:
            if self._rest and not self._put(self._rest):
                self.lost_lines += lines.count(b"\n")
                return False
            return self._put(lines)

    def _put(self, data: bytes) -> bool:
        resumed = data is self._rest
        try:
            written = os.write(self._fd, data)
        except OSError:
            written = 0
        self._rest = data[written:] if written or resumed else b""
        if not written and not resumed:
            self.lost_lines += data.count(b"\n")
        return not self._rest and bool(written)

    @property
    def was_removed(self) -> bool:
        """Whether nobody can find the file any more: what is written goes nowhere."""
        with self._lock:
            return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Close the file; further writes count as lost. Closing again does nothing."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1


def read_lines(path: str, offset: int, most_bytes: int) -> bytes:
    """Return the whole lines of a file from `offset` on: about `most_bytes` of them, but one at least.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(most_bytes)
        while data and b"\n" not in data:  # one line longer than a portion
            rest = file.read(most_bytes)
            if not rest:
                return b""
            data += rest
    return data[: data.rfind(b"\n") + 1]
