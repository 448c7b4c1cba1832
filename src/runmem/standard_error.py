"""What runmem itself says on standard error: it may be closed or full, and that must cost a program nothing."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

__all__ = ["open_closed_streams", "say"]


def say(text: str, stream: TextIO | None = None) -> None:
    """Write `text` and the end of the line to standard error, past Python's buffer; nothing where that cannot be.

    Parameters
    ----------
    stream : TextIO, optional
        What was standard error, if the program may have put something else in its place.

    Notes
    -----
    What Python's own buffer could not write it tries to write again when the process ends, and the exit code is then
    120. So our words do not go there, unless standard error is no file.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return
    line = text + "\n"
    with suppress(Exception):  # closed, full, or what the program has put in its place
        try:
            number = stream.fileno()
        except Exception:
            number = -1
        if number < 0 or stream.isatty():  # what stands in for a terminal takes its status line away first
            stream.write(line)
            stream.flush()
            return
        stream.flush()  # the program's words first
        rest = line.encode(stream.encoding or "utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(number, rest) :]


def open_closed_streams() -> None:
    """Open the device that swallows all in place of standard input, output and error where these are closed.

    Else the next files that are opened would be them, and whatever a library prints would go into these files.
    `sys.stdout` and its like stay None, as Python has them then.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
                os.set_inheritable(number, True)
