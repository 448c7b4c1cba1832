"""Writes the `@profile` reports of a process, and the allocations recorded for them, to the spool."""

from __future__ import annotations

import json
import os
import threading

from runmem.memory.memray_capture import memray_takes_part
from runmem.memory.profile_report import ProfileReport
from runmem.store.append import LineAppender
from runmem.store.layout import Spool
from runmem.worker.call_captures import CaptureSender
from runmem.worker.losses import Losses
from runmem.worker.record_fields import set_record_fields

__all__ = ["ProfileReports"]


class ProfileReports:
    """The reports of a process, for all its threads.

    Parameters
    ----------
    spool : Spool
    node : str
        Host name.
    losses : Losses
    """

    def __init__(self, spool: Spool, node: str, losses: Losses) -> None:
        self._spool = spool
        self._node = node
        self._losses = losses
        self._lock = threading.Lock()
        self._lines: LineAppender | None = None
        self._captures = CaptureSender(spool)

    def write(self, report: ProfileReport, task_id: int | None) -> None:
        """Write a report of the task that this thread runs."""
        line = {
            "task_id": task_id,
            "node": self._node,
            "pid": os.getpid(),
            "name": report.name,
            "text": report.text,
            "not_recorded": report.not_recorded,
        }
        if report.recorded_by is not None:
            set_record_fields(recorded_by=report.recorded_by, increment_unclear=memray_takes_part(None))
        with self._lock:
            if self._lines is None:
                self._lines = LineAppender(self._spool.profiles(os.getpid()))
            self._lines.write(json.dumps(line).encode() + b"\n")
        if report.capture is not None:
            try:
                self._captures.send(report.capture)
            except OSError as error:
                what = f"recorded allocations could not be sent: {error.strerror or error}"
                self._losses.report(what, str(report.capture))

    def close(self) -> None:
        """Close the files."""
        if self._lines is not None:
            self._lines.close()
        self._captures.close()
