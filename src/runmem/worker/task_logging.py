"""Writes what tasks log on a worker to the node's spool, from where the program's handlers get it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from runmem.store.append import LineAppender
from runmem.worker.log_levels import DASK_LOGGERS, DEFAULT, LogLevels

__all__ = ["TaskLogging"]

_PYTHONS = logging.lastResort  # what prints where nobody has set up logging
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_SENT = (
    "name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs",
    "thread", "threadName", "process", "processName", "taskName", "stack_info",
)  # fmt: skip
_owners: dict[int, TaskLogging] = {}  # by thread: whose task it runs


class TaskLogging(logging.Handler):
    """Writes what is logged in this process, by a task or in threads that it has started, to the spool.

    It lets through what the program would. Where the program's root logger has handlers it is the handler of the root
    logger here, so that `logging.basicConfig` in a module that both import does nothing; else it replaces
    `logging.lastResort`, and a task that sets logging up does so for this process, as it would without runmem.

    Parameters
    ----------
    path : Path
        File for what is logged; it is made with the first record.
    node : str
        Name of this node, for the records.
    notify : callable
        Called without arguments at the end of a bundle of calls in which something was logged.

    Attributes
    ----------
    has_news : bool
        Whether something was logged since then.
    """

    def __init__(self, path: Path, node: str, notify: Callable[[], None]) -> None:
        super().__init__()
        self._path = path
        self._node = node
        self._notify = notify
        self._file: LineAppender | None = None
        self._running: dict[int, tuple[int, str]] = {}  # by thread: number and name of the task
        self._latest: tuple[int | None, str | None] = None, None
        self._levels: LogLevels | None = None
        self._before: dict[str, int] = {}
        self._disabled_before = logging.root.manager.disable
        self._strangers = list(logging.getLogger().handlers)  # of the program that started this process
        self.has_news = self._is_in_force = False
        self._formatter_of_errors = logging.Formatter()

    def began(self, task_id: int, name: str, levels: LogLevels | None) -> None:
        """Note which task this thread runs, and how the program logged when it was called."""
        thread = threading.get_ident()
        self._running[thread] = self._latest = task_id, name
        _owners[thread] = self
        if levels != self._levels or not self._is_in_force:
            self._put_in_force(levels)

    def bundle_ended(self) -> None:
        """Note that this thread has run its calls, and notify if any has logged."""
        thread = threading.get_ident()
        self._running.pop(thread, None)
        _owners.pop(thread, None)
        if self.has_news:
            self.has_news = False
            self._notify()

    def close(self) -> None:
        """Leave this process's logging as it was found."""
        self._restore()
        logging.disable(self._disabled_before)
        if self._file is not None:
            self._file.close()
        super().close()

    def _put_in_force(self, levels: LogLevels | None) -> None:
        self._restore()
        self._levels, self._is_in_force = levels, True
        levels = levels or DEFAULT
        for name, level in levels.levels:
            logger = logging.getLogger(name or None)
            self._before[name] = logger.level
            logger.setLevel(level)
        logging.disable(levels.disabled)
        logging.captureWarnings(levels.captures_warnings)
        if levels.has_handlers:
            logging.getLogger().addHandler(self)
        else:
            logging.lastResort = self

    def _restore(self) -> None:
        for name, level in self._before.items():
            logging.getLogger(name or None).setLevel(level)
        self._before.clear()
        logging.getLogger().removeHandler(self)
        if logging.lastResort is self:
            logging.lastResort = _PYTHONS
        if self._is_in_force and self._levels is not None and self._levels.captures_warnings:
            logging.captureWarnings(False)
        self._is_in_force = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to the spool; one by which the worker speaks of itself goes where it always did."""
        try:
            owner = _owners.get(threading.get_ident(), self)
            if owner is not self:  # another run's task, which has its own of these
                if logging.lastResort is self:
                    owner.handle(record)
                return
            handled_by = self._handled_by(record)
            if self._is_the_workers(record):
                if not handled_by and _PYTHONS is not None and record.levelno >= _PYTHONS.level:
                    _PYTHONS.handle(record)
                return
            line = json.dumps(self._fields(record, handled_by), default=str, skipkeys=True)
            if self._file is None:
                self._file = LineAppender(self._path)
            self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            self.has_news = True
        except Exception:
            self.handleError(record)

    def _is_the_workers(self, record: logging.LogRecord) -> bool:
        top = record.name.partition(".")[0]
        either = top in ("asyncio", "py")  # also warnings that are logged: in a task's thread it is the task's
        return top in DASK_LOGGERS or (either and threading.get_ident() not in self._running)

    def _handled_by(self, record: logging.LogRecord) -> list[str]:
        """Return the loggers whose own handlers here get the record: the program's need not get it again."""
        found = []
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self and self._handles(handler) for handler in logger.handlers):
                found.append(logger.name)
            logger = logger.parent if logger.propagate else None
        return found

    def _handles(self, handler: logging.Handler) -> bool:
        return not isinstance(handler, (logging.NullHandler, TaskLogging)) and handler not in self._strangers

    def _fields(self, record: logging.LogRecord, handled_by: list[str]) -> dict[str, object]:
        task_id, task = self._running.get(threading.get_ident(), self._latest)
        fields = {name: getattr(record, name) for name in _SENT if hasattr(record, name)}
        fields |= {"msg": record.getMessage(), "node": self._node, "task_id": task_id, "task": task}
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = self._formatter_of_errors.formatException(record.exc_info)
        elif record.exc_text:
            fields["exc_text"] = record.exc_text
        if handled_by:
            fields["handled_by"] = handled_by
        return fields | {name: value for name, value in vars(record).items() if name not in _STANDARD}
