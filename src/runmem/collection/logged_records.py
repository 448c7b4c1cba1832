"""Passes the log records of tasks to the program's handlers."""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from typing import Any

from runmem.collection.observer import Observer
from runmem.events import LogLines

__all__ = ["LoggedRecords"]

log = logging.getLogger(__name__)

_DELIVERY_WAIT_S = 1.0  # a handler of the program may wait for the thread that waits here


class LoggedRecords(Observer):
    """Keeps lines from the nodes until a thread that may wait for a handler calls `deliver`."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._delivering = threading.RLock()

    def records_logged(self, event: LogLines) -> None:
        """Keep lines."""
        self._lines.append(event.lines)

    def deliver(self) -> None:
        """Pass all lines to the program's handlers."""
        if not self._lines or not self._delivering.acquire(timeout=_DELIVERY_WAIT_S):
            return
        try:
            while self._lines:
                for line in self._lines.popleft().splitlines():
                    try:
                        _handle(json.loads(line))
                    except Exception:
                        log.exception("a record that a task has logged could not be handled: %r", line[:200])
        finally:
            self._delivering.release()


def _handle(fields: dict[str, Any]) -> None:
    """Handle a record as the loggers here handle their own, except for the steps that were done on the worker."""
    handled_by = fields.pop("handled_by", [])
    record = logging.makeLogRecord({})
    began_s = record.created - record.relativeCreated / 1000  # when `logging` was imported
    vars(record).update(fields)
    record.args = None
    record.relativeCreated = (record.created - began_s) * 1000
    if record.levelname.startswith("Level "):
        record.levelname = logging.getLevelName(record.levelno)
    logger = logging.getLogger(record.name)
    if not logger.isEnabledFor(record.levelno):
        return
    if not handled_by:
        logger.handle(record)
    elif not logger.disabled and (passed := logger.filter(record)):
        _call_handlers(logger, record if passed is True else passed, handled_by)


def _call_handlers(logger: logging.Logger, record: logging.LogRecord, handled_by: list[str]) -> None:
    """Call handlers as `Logger.callHandlers` does, except those of the loggers in `handled_by`."""
    level: logging.Logger | None = logger
    while level is not None:
        for handler in level.handlers if level.name not in handled_by else []:
            if record.levelno >= handler.level:
                handler.handle(record)
        level = level.parent if level.propagate else None
