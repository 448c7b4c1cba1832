"""Errors of command-line tasks and of their runner."""

from __future__ import annotations

import multiprocessing

from runmem.errors import RunmemError
from runmem.pipe_base.errors import ConfigError

__all__ = [
    "ConfigError",
    "RunTimeoutError",
    "TargetError",
    "TargetKilledError",
    "TargetTimeoutError",
    "TaskError",
    "exit_error",
]


class TaskError(RunmemError):
    """A failure that the task itself foresaw: reported by its message, without a traceback."""


class TargetError(RunmemError):
    """A target that failed, where its own exception cannot be raised."""


class TargetKilledError(TargetError):
    """A target whose process died before it had ended."""


class TargetTimeoutError(TargetError):
    """A target that was ended because its time was up."""


class RunTimeoutError(RunmemError, multiprocessing.TimeoutError):
    """A run of targets that took longer than its timeout; says which targets had not ended."""


def exit_error(request: BaseException) -> TargetError:
    """Return the error of a target that would end its process with a `SystemExit` or `KeyboardInterrupt`."""
    if not isinstance(request, SystemExit):
        return TargetError(f"the task called for an exit: {type(request).__name__}")
    return TargetError(f"the task called for an exit: sys.exit({'' if request.code is None else repr(request.code)})")
