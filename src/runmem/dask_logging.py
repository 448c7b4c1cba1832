"""Keeps the log records of Dask and its libraries out of the program's log.

A program can ask for them: ``logging.getLogger("distributed").propagate = True``, or a handler on that logger. Warnings
and errors that concern the user go to standard error, in Dask's format.
"""

from __future__ import annotations

import logging
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from runmem.errors import SettingError
from runmem.standard_error import say

__all__ = ["hide_handlers", "import_dask", "isolate_dask_log", "isolate_runmem_log", "set_dask_log_level"]

_DASK_LOGGERS = ("distributed", "dask")
_SHARED_LOGGERS = ("asyncio", "tornado", "bokeh")  # libraries that both Dask and the program may use
_LOGGERS_SET_BY_DASK = ("distributed.client", "distributed.gc", "tornado.application")  # also changed by Dask's import
_DASK_PACKAGES = frozenset({*_DASK_LOGGERS, "runmem"})
_LIBRARY_FOLDERS = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_PROGRAM_CALLER = "runmem.cli.program"  # calls the program, so frames above it say nothing

_lock = threading.Lock()
_dask_isolated = _libraries_isolated = False
_dask_handler: logging.Handler | None = None
_dask_level = logging.NOTSET


class _LoggerState(NamedTuple):
    """The configuration of a logger."""

    level: int
    propagate: bool
    handlers: list[logging.Handler]

    @classmethod
    def of(cls, logger: logging.Logger) -> _LoggerState:
        return cls(logger.level, logger.propagate, list(logger.handlers))

    def restore(self, logger: logging.Logger, with_level: bool) -> None:
        logger.propagate = self.propagate
        for handler in [handler for handler in logger.handlers if handler not in self.handlers]:
            logger.removeHandler(handler)
        if with_level:
            logger.setLevel(self.level)


class _ProgramRecords(logging.Handler):
    """Passes the program's records of a shared library on to the root logger.

    Of Dask's records, only errors are printed, on standard error.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        if self._logger.propagate:  # the program asked for all records and gets them anyway
            return
        if _is_from_program(record):
            logging.getLogger().callHandlers(record)
        elif record.levelno >= logging.ERROR and logging.lastResort is not None:
            logging.lastResort.handle(record)


class _ProgramWarnings(logging.Filter):
    """Accepts the program's warnings (`logging.captureWarnings`); prints Dask's to standard error."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _is_from_program(record):
            return True
        say(record.getMessage().rstrip())
        return False


def _is_from_program(record: logging.LogRecord) -> bool:
    """Return True if the record handled by this thread is from the program or a task."""
    return hasattr(record, "task") or not _is_called_by_dask()


def _is_called_by_dask() -> bool:
    """Return True if the nearest caller that is no library is Dask or runmem, rather than the program."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name == _PROGRAM_CALLER:
            return False
        if name != __name__:
            if name.partition(".")[0] in _DASK_PACKAGES:
                return True
            if not frame.f_code.co_filename.startswith((*_LIBRARY_FOLDERS, "<frozen ")):
                return False
        frame = frame.f_back
    return False


def isolate_dask_log() -> None:
    """Keep Dask's log records from the handlers of the program, unless it changes that later.

    May be called again.
    """
    global _dask_isolated
    if not _dask_isolated:
        _dask_isolated = True
        for name in _DASK_LOGGERS:
            logging.getLogger(name).propagate = False


def _isolate_libraries() -> None:
    """Keep Dask's records in shared libraries from the handlers of the program.

    Not before the import of Dask: the program's `logging.config` would disable the existing loggers.
    """
    global _libraries_isolated
    with _lock:
        if _libraries_isolated:
            return
        _libraries_isolated = True
    for name in _SHARED_LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(_ProgramRecords(logger))
    logging.getLogger("py.warnings").addFilter(_ProgramWarnings())


def isolate_runmem_log() -> None:
    """Print runmem's warnings to standard error, independent of the program's log."""
    logger = logging.getLogger("runmem")
    if logger.propagate:
        logger.propagate = False
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        logger.addHandler(handler)


def import_dask() -> None:
    """Import `distributed` without its changes to the program's logging.

    The import configures some loggers, depending on the program's handlers. A logging configuration in Dask's own files
    is kept.
    """
    isolate_dask_log()
    _isolate_libraries()
    if "distributed" in sys.modules:
        _find_dask_handler()
        _add_dask_handler()
        return
    try:
        _import_distributed()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SettingError(
            f"Dask cannot be imported with its configuration ({type(error).__name__}: {error}): correct "
            "~/.config/dask, the variables DASK_*, or the other places of Dask's configuration."
        ) from error


def _import_distributed() -> None:
    names = (*_DASK_LOGGERS, *_SHARED_LOGGERS, *_LOGGERS_SET_BY_DASK)
    before = {name: _LoggerState.of(logging.getLogger(name)) for name in names}
    import distributed  # noqa: F401

    if _is_configured():
        return
    for name, state in before.items():
        # Dask's levels of its own loggers are kept, unless the program has set them.
        is_shared = name.partition(".")[0] in _SHARED_LOGGERS
        state.restore(logging.getLogger(name), with_level=is_shared or state.level != logging.NOTSET)
    _add_dask_handler()


def _find_dask_handler() -> None:
    """Take over the handler that Dask's import has added to its logger, if the program imported Dask first.

    It prints all that a scheduler and its workers do. The handlers of the program are its own.
    """
    global _dask_handler
    from dask import config

    if _is_configured():
        return
    form = config.get("distributed.admin.log-format", None)
    for handler in logging.getLogger("distributed").handlers:
        formatter = handler.formatter
        if type(handler) is logging.StreamHandler and formatter is not None and formatter._fmt == form:
            _dask_handler = handler
            handler.setLevel(_dask_level)


def _is_configured() -> bool:
    """Return True if Dask's own files have a configuration of the logging."""
    from dask import config

    return not {"logging-file-config", "logging"}.isdisjoint([*config.get("distributed", {}), *config.config])


def _add_dask_handler() -> None:
    """Print Dask's log to standard error, unless the program handles it."""
    global _dask_handler
    logger = logging.getLogger("distributed")
    if logger.propagate or logger.handlers:
        return
    from dask import config

    _dask_handler = logging.StreamHandler()
    _dask_handler.setFormatter(logging.Formatter(config.get("distributed.admin.log-format", None)))
    _dask_handler.setLevel(_dask_level)
    logger.addHandler(_dask_handler)


def set_dask_log_level(level: int) -> None:
    """Set the level of Dask's log on standard error; handlers of the program are not affected."""
    global _dask_level
    _dask_level = level
    if _dask_handler is not None:
        _dask_handler.setLevel(level)


class _HandlerProxy(logging.Handler):
    """Passes records on to another handler."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self._handler.level:
            self._handler.handle(record)


@contextmanager
def hide_handlers() -> Iterator[None]:
    """Protect the program's handlers on Dask's loggers, whose levels ``silence_logs`` would change."""
    loggers = [logging.getLogger("distributed"), logging.getLogger("bokeh")]
    hidden = [(logger, handler, _HandlerProxy(handler)) for logger in loggers for handler in logger.handlers]
    for logger, handler, proxy in hidden:
        logger.addHandler(proxy)
        logger.removeHandler(handler)
    try:
        yield
    finally:
        for logger, handler, proxy in hidden:
            logger.addHandler(handler)
            logger.removeHandler(proxy)
