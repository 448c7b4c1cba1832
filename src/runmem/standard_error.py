"""Writes runmem's messages to standard error, and ignores a stream that is closed or full."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

__all__ = ["as_sentence", "open_closed_streams", "say"]


def as_sentence(text: str) -> str:
    """Add a full stop to a text, unless it ends with one or with a question mark."""
    return text if text.endswith((".", "?")) else f"{text}."


def say(text: str, stream: TextIO | None = None) -> None:
    """Write a line to standard error, bypassing Python's buffer. Errors are ignored.

    Parameters
    ----------
    stream : TextIO, optional
        The original standard error, if the program may have replaced `sys.stderr`.

    Notes
    -----
    Python retries a failed buffer at exit, and then exits with code 120. So only streams that are not files use the
    buffer.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:
        return
    line = text + "\n"
    with suppress(Exception):  # closed, full, or an object of the program's
        try:
            number = stream.fileno()
        except Exception:
            number = -1
        if number < 0 or stream.isatty():  # the wrapper of a terminal must erase its status line first
            stream.write(line)
            stream.flush()
            return
        stream.flush()  # the program's output first
        rest = line.encode(stream.encoding or "utf-8", "backslashreplace")
        while rest:
            rest = rest[os.write(number, rest) :]


def open_closed_streams() -> None:
    """Open the null device for each of standard input, output and error that is closed.

    Otherwise the next file opened would take the free descriptor, and the output of libraries would go into that file.
    `sys.stdin`, `sys.stdout` and `sys.stderr` stay None, as in Python.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
                os.set_inheritable(number, True)
