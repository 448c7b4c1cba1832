"""A line at the bottom of a terminal that follows a run, and that the program's own output never mixes with."""

from __future__ import annotations

import os
import threading
from typing import Any, TextIO, cast

__all__ = ["StatusLine"]

_CLEAR = "\r\x1b[K"


class _Above:
    """Stands for a text stream on the same terminal: what is written to it comes above the line, unchanged.

    Everything but `write` and `writelines` is the stream's own.
    """

    _stream: TextIO
    _line: StatusLine

    def __init__(self, stream: TextIO, line: StatusLine) -> None:
        self.__dict__.update(_stream=stream, _line=line)

    def write(self, text: str) -> int:
        return self._line.write_above(self._stream, text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream, name, value)

    def __iter__(self) -> Any:
        return iter(self._stream)


class StatusLine:
    """Shows one line on a terminal.

    Parameters
    ----------
    stream : TextIO
        The terminal.

    Notes
    -----
    The line is taken off the screen before anything is written through a stream that `above` returned, and does not
    come back while the program has begun a line of its own (a prompt, a progress bar). Limitation: what is written
    past Python's streams (a subprocess, a C library) is not seen, and starts on the line's place.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = ""
        self._line_begun = False
        self._lock = threading.RLock()

    def above(self, stream: TextIO) -> TextIO:
        """Return what stands in for `stream`, which goes to the same terminal."""
        return cast(TextIO, _Above(stream, self))

    def show(self, text: str) -> None:
        """Show `text` instead of what was shown, cut to the terminal's width."""
        with self._lock:
            text = text[: self._columns() - 1]
            if self._line_begun or text == self._shown:
                return
            self._put(_CLEAR + text)
            self._shown = text

    def hide(self) -> None:
        """Take the line off the screen."""
        with self._lock:
            if self._shown:
                self._put(_CLEAR)
                self._shown = ""

    def write_above(self, stream: TextIO, text: str) -> int:
        """Write the program's `text` to `stream`, where the line was."""
        with self._lock:
            self.hide()
            if text:
                self._line_begun = not text.endswith("\n")
            return stream.write(text)

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone: nobody looks
            self._shown = ""

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80
