"""A status line at the bottom of a terminal that does not mix with the program's output."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from typing import TextIO, cast

__all__ = ["StatusLine"]

_CLEAR = "\r\x1b[K"


class _StreamAbove:
    """Wraps a text stream on the same terminal, so that its output appears above the line."""

    _stream: TextIO
    _line: StatusLine

    def __init__(self, stream: TextIO, line: StatusLine) -> None:
        self.__dict__.update(_stream=stream, _line=line)

    def write(self, text: str) -> int:
        return self._line.write_above(self._stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._stream, name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)


class StatusLine:
    """A line on a terminal that is updated in place.

    Parameters
    ----------
    stream : TextIO
        The terminal.

    Notes
    -----
    The line is erased before any output to a stream from `above`, and is not shown while the program's output ends in
    an incomplete line (a prompt, a progress bar). Limitation: output that bypasses Python's streams (a subprocess, a C
    library) is not detected and overwrites the line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""
        self._line_begun = False
        self._lock = threading.RLock()

    def above(self, stream: TextIO) -> TextIO:
        """Return a wrapper of `stream`, which must be the same terminal, that writes above the line."""
        return cast(TextIO, _StreamAbove(stream, self))

    def show(self, text: str) -> None:
        """Replace the line by `text`, cut to the terminal's width."""
        with self._lock:
            text = text[: self._columns() - 1]
            if self._line_begun or text == self._shown:
                return
            self._put(_CLEAR + text)
            self._shown = text

    def hide(self) -> None:
        """Erase the line."""
        with self._lock:
            if self._shown:
                self._put(_CLEAR)
                self._shown = ""

    def write_above(self, stream: TextIO, text: str) -> int:
        """Erase the line and write the program's `text` to `stream`."""
        with self._lock:
            self.hide()
            if text:
                self._line_begun = not text.endswith("\n")
            return stream.write(text)

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is closed
            self._shown = ""

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80
