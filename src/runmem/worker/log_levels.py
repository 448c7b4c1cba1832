"""Levels of a program's log, which workers set too, so that a task logs no more and no less than the program.

Of the standard library beyond its documentation this uses that loggers remember which levels are enabled in ``_cache``
and forget it whenever a level is set anywhere; where there is no such thing, levels are looked up at every call.
"""

from __future__ import annotations

import logging
import warnings
from typing import NamedTuple

__all__ = ["DEFAULT", "DASK_LOGGERS", "LogLevels", "program_levels"]

DASK_LOGGERS = frozenset({"distributed", "dask", "tornado", "bokeh", "runmem"})
"""Loggers, with all below them, by which a worker speaks of itself and not for the program's task."""

_NO_LEVEL = -791  # nobody logs at that


class LogLevels(NamedTuple):
    """How a program logs at a moment.

    Attributes
    ----------
    has_handlers : bool
        Whether the root logger has handlers; `logging.basicConfig` does nothing then.
    levels : tuple of (name, level)
        Of the root logger (an empty name) and of those that have a level of their own; not of loggers that a library
        makes by a class of its own.
    disabled : int
        What `logging.disable` was called with.
    captures_warnings : bool
        Whether warnings are logged (`logging.captureWarnings`).
    """

    has_handlers: bool = False
    levels: tuple[tuple[str, int], ...] = (("", logging.WARNING),)
    disabled: int = logging.NOTSET
    captures_warnings: bool = False


DEFAULT = LogLevels()


class _ProgramLevels:
    """Looks up how this process logs, which costs next to nothing as long as nothing has changed."""

    def __init__(self) -> None:
        self._known: LogLevels | None = None
        self._seen: tuple[bool, bool] | None = None

    def current(self) -> LogLevels | None:
        """Return the program's levels now; None for a program that has set nothing up."""
        root = logging.getLogger()
        seen = bool(root.handlers), warnings.showwarning.__module__ == "logging"
        if seen != self._seen or _NO_LEVEL not in getattr(root, "_cache", ()):
            root.isEnabledFor(_NO_LEVEL)  # the root logger remembers that, until a level is set
            self._seen, self._known = seen, self._look_up(*seen)
        return self._known

    def _look_up(self, has_handlers: bool, captures_warnings: bool) -> LogLevels | None:
        root = logging.getLogger()
        loggers = list(root.manager.loggerDict.items())
        own = [
            (name, logger.level)
            for name, logger in loggers
            # One of a class of its own is made by a library, on a worker too: it must not be there before.
            if type(logger) is logging.Logger and logger.level and name.partition(".")[0] not in DASK_LOGGERS
        ]
        levels = (("", root.level), *sorted(own))
        found = LogLevels(has_handlers, levels, root.manager.disable, captures_warnings)
        return None if found == DEFAULT else found


program_levels = _ProgramLevels()
