"""What tasks have logged, given to the program's handlers."""

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

_PATIENCE_S = 1.0  # a handler of the program's may wait for the thread that waits here


class LoggedRecords(Observer):
    """Keeps the lines that come from the nodes until `deliver` is called, in a thread that may wait for a handler."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._turn = threading.RLock()

    def records_logged(self, event: LogLines) -> None:
        """Take lines."""
        self._lines.append(event.lines)

    def deliver(self) -> None:
        """Give all that has come to the program's handlers."""
        if not self._lines or not self._turn.acquire(timeout=_PATIENCE_S):
            return
        try:
            while self._lines:
                for line in self._lines.popleft().splitlines():
                    try:
                        _handle(json.loads(line))
                    except Exception:
                        log.exception("a record that a task has logged could not be handled: %r", line[:200])
        finally:
            self._turn.release()


def _handle(fields: dict[str, Any]) -> None:
    """Let the loggers here do what they do with their own records, but for what was done on the worker."""
    told_by = fields.pop("told_by", [])
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
    if not told_by:
        logger.handle(record)
    elif not logger.disabled and (passed := logger.filter(record)):
        _call_handlers(logger, record if passed is True else passed, told_by)


def _call_handlers(logger: logging.Logger, record: Any, told_by: list[str]) -> None:
    """As `Logger.callHandlers`, without the handlers of the loggers in `told_by`."""
    level: logging.Logger | None = logger
    while level is not None:
        for handler in level.handlers if level.name not in told_by else []:
            if record.levelno >= handler.level:
                handler.handle(record)
        level = level.parent if level.propagate else None
