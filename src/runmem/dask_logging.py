"""Keeps what Dask and its libraries log out of the program's log, which is the program's alone.

A program that wants to see it asks for it: ``logging.getLogger("distributed").propagate = True``, or a handler there.
What it is to know of Dask without asking goes to standard error, as Dask itself has it.
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

__all__ = [
    "hide_handlers",
    "import_dask",
    "called_by_dask",
    "isolate_dask_log",
    "isolate_runmem_log",
    "set_dask_log_level",
]

_OF_DASK = ("distributed", "dask")
_SHARED = ("asyncio", "tornado", "bokeh")  # the program may use these itself, and then their records are its own
_SET_BY_DASK = ("distributed.client", "distributed.gc", "tornado.application")  # beside those above, when imported
_FRAMES = frozenset({*_OF_DASK, "runmem"})
_LIBRARIES = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_PROGRAM_BEGINS = "runmem.cli.program"

_lock = threading.Lock()
_kept_apart = _libraries_kept_apart = False
_stderr: logging.Handler | None = None
_level = logging.NOTSET


class _LoggerState(NamedTuple):
    """How a logger was set up."""

    level: int
    propagate: bool
    handlers: list[logging.Handler]

    @classmethod
    def of(cls, logger: logging.Logger) -> _LoggerState:
        return cls(logger.level, logger.propagate, list(logger.handlers))

    def restore(self, logger: logging.Logger, level: bool) -> None:
        logger.propagate = self.propagate
        for handler in [handler for handler in logger.handlers if handler not in self.handlers]:
            logger.removeHandler(handler)
        if level:
            logger.setLevel(self.level)


class _ProgramsOwn(logging.Handler):
    """Stands at the logger of a library that Dask and the program use: the records of the program's use go on as ever.

    Of Dask's use only errors are told, on standard error.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        if self._logger.propagate:  # the program asked for all of them, and gets them by that
            return
        if _is_the_programs(record):
            logging.getLogger().callHandlers(record)
        elif record.levelno >= logging.ERROR and logging.lastResort is not None:
            logging.lastResort.handle(record)


class _OwnWarnings(logging.Filter):
    """Lets the warnings of the program into its log (`logging.captureWarnings`); those of Dask go to standard error."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _is_the_programs(record):
            return True
        say(record.getMessage().rstrip())
        return False


def _is_the_programs(record: logging.LogRecord) -> bool:
    """Tell whether a record that is being handled in this thread is the program's; what a task has logged is, too."""
    return hasattr(record, "task") or not called_by_dask()


def called_by_dask(frame: FrameType | None = None) -> bool:
    """Tell whether it is Dask or runmem, rather than the program, that the code which runs now belongs to.

    Of the frames above, those of the standard library and of other libraries say nothing: they may serve either.

    Parameters
    ----------
    frame : frame, optional
        The innermost one to look at; default the caller's.
    """
    frame = frame or sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name == _PROGRAM_BEGINS:
            return False
        if name != __name__:
            if name.partition(".")[0] in _FRAMES:
                return True
            if not frame.f_code.co_filename.startswith((*_LIBRARIES, "<frozen ")):
                return False
        frame = frame.f_back
    return False


def isolate_dask_log() -> None:
    """Keep what Dask logs from the handlers of the program, from now on; once is enough.

    A program that asks for it does so after this.
    """
    global _kept_apart
    if not _kept_apart:
        _kept_apart = True
        for name in _OF_DASK:
            logging.getLogger(name).propagate = False


def _keep_libraries_apart() -> None:
    """The same for what Dask is built on.

    When Dask comes and not before: a program that sets up its log (`logging.config`) disables loggers that exist.
    """
    global _libraries_kept_apart
    with _lock:
        if _libraries_kept_apart:
            return
        _libraries_kept_apart = True
    for name in _SHARED:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(_ProgramsOwn(logger))
    logging.getLogger("py.warnings").addFilter(_OwnWarnings())


def isolate_runmem_log() -> None:
    """Let runmem's own warnings go to standard error, whatever the program does with its log."""
    logger = logging.getLogger("runmem")
    if logger.propagate:
        logger.propagate = False
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        logger.addHandler(handler)


def import_dask() -> None:
    """Import `distributed` without the traces that its import leaves in how the program logs.

    It sets up some loggers, and in another way where the program has handlers already. A configuration of Dask's own
    (``logging`` in its files) is obeyed as it stands.
    """
    isolate_dask_log()
    _keep_libraries_apart()
    if "distributed" in sys.modules:
        _give_handler()
        return
    try:
        _import_distributed()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SettingError(
            f"Dask cannot be imported with its configuration ({type(error).__name__}: {error}): correct what is in "
            "~/.config/dask, in the variables DASK_*, or where else Dask is configured."
        ) from error


def _import_distributed() -> None:
    from dask import config

    names = (*_OF_DASK, *_SHARED, *_SET_BY_DASK)
    before = {name: _LoggerState.of(logging.getLogger(name)) for name in names}
    import distributed  # noqa: F401

    chosen = [*config.get("distributed", {}), *config.config]
    if "logging-file-config" in chosen or "logging" in chosen:
        return
    for name, state in before.items():
        # What level Dask gives its own loggers counts, unless the program has given them one.
        state.restore(logging.getLogger(name), name.partition(".")[0] in _SHARED or state.level != logging.NOTSET)
    _give_handler()


def _give_handler() -> None:
    """Let Dask's log go to standard error, unless the program has it go elsewhere."""
    global _stderr
    logger = logging.getLogger("distributed")
    if logger.propagate or logger.handlers:
        return
    from dask import config

    _stderr = logging.StreamHandler()
    _stderr.setFormatter(logging.Formatter(config.get("distributed.admin.log-format", None)))
    _stderr.setLevel(_level)
    logger.addHandler(_stderr)


def set_dask_log_level(level: int) -> None:
    """Let only records of Dask from this level on go to standard error; the program's handlers get what they did."""
    global _level
    _level = level
    if _stderr is not None:
        _stderr.setLevel(level)


class _Stand(logging.Handler):
    """Stands in for another handler."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self._handler.level:
            self._handler.handle(record)


@contextmanager
def hide_handlers() -> Iterator[None]:
    """Leave the program's handlers at Dask's loggers as they are: ``silence_logs`` takes those for Dask's own."""
    loggers = [logging.getLogger("distributed"), logging.getLogger("bokeh")]
    hidden = [(logger, handler, _Stand(handler)) for logger in loggers for handler in logger.handlers]
    for logger, handler, stand in hidden:
        logger.addHandler(stand)
        logger.removeHandler(handler)
    try:
        yield
    finally:
        for logger, handler, stand in hidden:
            logger.addHandler(handler)
            logger.removeHandler(stand)
