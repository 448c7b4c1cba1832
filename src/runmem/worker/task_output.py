"""What tasks print on a worker: where it finds no room it is counted as lost, and the task goes on.

A program that runs sequentially prints into its own standard output. On a worker that may be a log on a full disk, or a
pipe that nobody reads any more, which is no fault of the task's.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import Any, NamedTuple

__all__ = ["Unwritten", "keep_printing", "describe_unwritten", "unwritten"]


class Unwritten(NamedTuple):
    """What a process could not write to its standard output and error.

    Attributes
    ----------
    size_bytes : int
    reason : str
        What the system said of it first.
    """

    size_bytes: int = 0
    reason: str = ""


_unwritten = Unwritten()


def unwritten() -> Unwritten:
    """Return the output that this process could not write so far."""
    return _unwritten


class _NeverFull(io.FileIO):
    """A file that takes whatever is written to it, also where there is no room for it."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        global _unwritten
        try:
            return super().write(data)
        except OSError as error:
            size = memoryview(data).nbytes
            reason = _unwritten.reason or error.strerror or str(error)
            _unwritten = Unwritten(_unwritten.size_bytes + size, reason)
            return size


def keep_printing() -> None:
    """Write what this process prints at once, also to a pipe, and never raise for want of room.

    Streams that are no files of Python's own, such as those of a test, are left as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        raw = getattr(stream.buffer, "raw", stream.buffer)  # with PYTHONUNBUFFERED there is nothing between them
        if type(raw) is not io.FileIO:
            stream.reconfigure(line_buffering=True)
            continue
        with suppress(OSError):
            stream.flush()
        file = _NeverFull(raw.fileno(), "w", closefd=False)
        file.name = raw.name
        buffer = file if stream.buffer is raw else io.BufferedWriter(file)
        again = io.TextIOWrapper(
            buffer, stream.encoding, stream.errors, "\n", line_buffering=True, write_through=stream.write_through,
        )  # fmt: skip
        again.mode = "w"  # type: ignore[misc]  # as Python has it
        if getattr(sys, f"__{name}__") is stream:
            setattr(sys, f"__{name}__", again)
        setattr(sys, name, again)


def describe_unwritten(found: list[Unwritten]) -> str | None:
    """Return a message on how much of the tasks' output is lost, given the reports of processes; None: nothing is."""
    size = sum(one.size_bytes for one in found)
    if not size:
        return None
    reasons = ", ".join(dict.fromkeys(one.reason for one in found))
    return f"at least {size:,} bytes that tasks printed could not be written ({reasons}); the tasks went on without"
