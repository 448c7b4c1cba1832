"""An append-only file of whole lines that survives the death of its writer and a full disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["LineAppender", "read_lines"]


class LineAppender:
    """Append whole lines, each batch with a single ``write``; never raise because the disk is full.

    Written lines survive SIGKILL of the writer, because the page cache does. After an incomplete write the rest is
    written first next time, so that no line in the file is torn; lines that cannot be written are counted in
    `lost_lines`.

    Parameters
    ----------
    path : Path
        The file; created with mode 0600.

    Assumptions: each file has one writer process, or batches so small that the kernel appends them as a whole.
    Limitations: on a full disk the file may end with an incomplete line until there is room; readers only take lines
    with a newline.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost_lines = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, lines: bytes) -> bool:
        """Append `lines` (whole, each ending with a newline); return True if they are in the file."""
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
        """Whether the file was deleted, so that lines are lost."""
        with self._lock:
            return self._fd >= 0 and os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Close the file; later writes count as lost. Closing again does nothing."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1


def read_lines(path: str, offset: int, most_bytes: int) -> bytes:
    """Return the whole lines of a file from `offset` on: about `most_bytes`, but at least one line.

    Raises OSError if the file cannot be read.
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
