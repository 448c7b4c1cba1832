"""Where a process that runs calls says that they begin and end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from runmem.store.line_writer import LineWriter
from runmem.store.mapped_lines import MappedLines

__all__ = ["SpooledLog", "TaskLog"]


class TaskLog(Protocol):
    """What `WorkerRun` tells of calls; what was told must survive the process being killed.

    Attributes
    ----------
    place : str
        Where it is kept, for messages.
    """

    place: str

    @property
    def lost_lines(self) -> int:
        """How much of it could not be kept."""

    def begins(self, task: Any, task_id: int, thread: int, start_s: float, base_bytes: int | None) -> None:
        """Say that a call begins."""

    def ends(
        self, task: Any, task_id: int, thread: int, times: tuple[float, float, float], status: str,
        exception: str | None, values: dict[str, Any], following: int | None = None,
    ) -> None:  # fmt: skip
        """Say how a call has ended; see `LineWriter.end`."""

    def unbegun(self, task_id: int) -> None:
        """Say that a call that was said to follow does not begin."""

    def like(self, task: Any, thread: int, values: dict[str, Any]) -> Callable[..., object] | None:
        """Return what says the same of calls like one that has just ended, given what `LineWriter.like` wants; or None.

        None where that is not quicker.
        """

    def close(self) -> None:
        """End it."""


class SpooledLog:
    """Lines in the spool.

    Parameters
    ----------
    path : Path
        The file of lines.
    node : str
    limit_bytes : int or None
        What this process may use.
    """

    def __init__(self, path: Path, node: str, limit_bytes: int | None) -> None:
        self.place = str(path)
        self._file = MappedLines(path)
        self._lines = LineWriter(node, limit_bytes, os.getpid())

    @property
    def lost_lines(self) -> int:
        """Lines that could not be written."""
        return self._file.lost_lines

    def begins(self, task: Any, task_id: int, thread: int, start_s: float, base_bytes: int | None) -> None:
        """Write the line of a call that begins."""
        self._file.write(self._lines.start(task, task_id, thread, start_s, base_bytes))

    def ends(
        self, task: Any, task_id: int, thread: int, times: tuple[float, float, float], status: str,
        exception: str | None, values: dict[str, Any], following: int | None = None,
    ) -> None:  # fmt: skip
        """Write the line of a call that has ended."""
        self._file.write(self._lines.end(task, task_id, thread, times, status, exception, values, following))

    def unbegun(self, task_id: int) -> None:
        """Write that a call that was said to follow does not begin."""
        self._file.write(self._lines.unbegun(task_id))

    def like(self, task: Any, thread: int, values: dict[str, Any]) -> Callable[..., object]:
        """Return what writes such a line, ready but for what differs."""
        line, write = self._lines.like(task, thread, values), self._file.write
        return lambda *given: write(line % given)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
