"""The recorded allocations of calls: which calls are recorded (``--memray``), and how the files reach the master."""

from __future__ import annotations

import json
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from runmem.graph.task import TaskFunction
from runmem.memory.memray_capture import CaptureFiles
from runmem.memory.profile import record_call, records_allocations
from runmem.memory.profile_report import ProfileReport, emit
from runmem.store.append import LineAppender
from runmem.store.layout import Spool, safe_name
from runmem.units import KIB

__all__ = ["CaptureSender", "files_in_spool", "import_memray", "recording"]

Result = TypeVar("Result")

_PART_BYTES = 512 * KIB
_COMMAND = "it runs a command in a process of its own"
_OTHER_BACKEND = "it has a @profile with another backend, whose sizes would include memray's own memory"

_refused: set[str] = set()


def import_memray(names: Sequence[str]) -> None:
    """Load memray, if calls are to be recorded: else the first one would be charged for that."""
    if names:
        with suppress(Exception):  # the calls report it
            import memray  # noqa: F401


def files_in_spool(folder: Path, node: str) -> CaptureFiles:
    """Return where the processes of a node record allocations: in its spool, so that they count calls together."""
    return CaptureFiles(folder, safe_name(node))


def recording(names: Sequence[str], task: TaskFunction, body: Callable[[], Result]) -> Callable[[], Result]:
    """Return what runs a call, `body`, and records its allocations if `names` has the task."""
    if not names or not (task.name in names or f"{task.module}.{task.name}" in names):
        return body
    of_decorator = records_allocations(task.function)
    if of_decorator:
        return body  # it records by itself
    if task.launch is not None or of_decorator is False:
        _refuse(task, _COMMAND if task.launch is not None else _OTHER_BACKEND)
        return body

    def recorded() -> Result:
        with record_call(task.function, task.name) as call:
            return call.call(body)

    return recorded


def _refuse(task: TaskFunction, reason: str) -> None:
    """Report, once in a process, that the calls of a task are not recorded."""
    if task.name not in _refused:
        _refused.add(task.name)
        text = f"{task.file} {task.name}: allocations not recorded, {reason}\n"
        emit(ProfileReport(task.name, task.file, text, False, None, not_recorded=reason))


class CaptureSender:
    """Sends files of one worker process to the master, as lines in its spool."""

    def __init__(self, spool: Spool) -> None:
        self._path = spool.captures(os.getpid())
        self._lines: LineAppender | None = None
        self._lock = threading.Lock()

    def send(self, capture: Path) -> None:
        """Send a file, and leave it empty: that it exists shows how many calls were recorded.

        Raises OSError if it cannot be read, or the lines cannot be written.
        """
        with self._lock, open(capture, "r+b") as file:
            if self._lines is None:
                self._lines = LineAppender(self._path)
            offset = 0
            while part := file.read(_PART_BYTES):
                line = {"file": capture.name, "offset": offset, "data": b64encode(part).decode()}
                self._lines.write(json.dumps(line).encode() + b"\n")
                offset += len(part)
            file.truncate(0)

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()
