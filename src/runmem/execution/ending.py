"""The end of a run: independent steps, and the calls that it cuts off."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import NamedTuple, TypeVar

__all__ = ["CutOff", "Steps", "reason_of_end", "status_of"]

Value = TypeVar("Value")


class Steps:
    """Does the steps of the end one after the other; one that fails is reported, and does not prevent the others.

    Parameters
    ----------
    report : callable
        Takes the step that failed, and why.
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report

    def __call__(self, what: str, step: Callable[..., Value], *arguments: object) -> Value | None:
        """Do a step and return its value; None if it fails."""
        try:
            return step(*arguments)
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._report(f"the end of the run: {what}", f"{type(error).__name__}: {reason or 'no reason is given'}")
            return None


class CutOff(NamedTuple):
    """Calls that the end of a program cut off.

    Attributes
    ----------
    reason : str
        How the program ended.
    cancelled : int
        Number of tasks that ran and were cancelled.
    not_begun : int
        Number of calls not known to have begun; where memory is not measured, also those that ran.
    is_measured : bool
    """

    reason: str
    cancelled: int
    not_begun: int
    is_measured: bool

    def __str__(self) -> str:
        if not self.is_measured:
            return f"{self.reason}: {_counted(self.not_begun, 'task call')} that had not ended {_were(self.not_begun)}"
        ran = f"{_counted(self.cancelled, 'task')} that ran {_were(self.cancelled)}"
        return f"{self.reason}: {ran}, and {_counted(self.not_begun, 'call')} had not begun"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was cancelled" if count == 1 else "were cancelled"


def reason_of_end(exit_code: int | None) -> str:
    """Describe the end of a program that did not wait for its calls."""
    if not exit_code:
        return "the program ended"
    try:
        return f"the program was ended by {signal.Signals(exit_code - 128).name}"
    except ValueError:
        return f"the program ended with exit code {exit_code}"


def status_of(error: BaseException | None) -> int:
    """Return the exit code of a block that ended with this error: 0 for None, or a ``sys.exit`` that means success."""
    if error is None:
        return 0
    if not issubclass(type(error), SystemExit):  # `isinstance` would run code of the exception's class
        return 1
    code = vars(SystemExit)["code"].__get__(error)
    return 0 if code is None or (issubclass(type(code), int) and int.__int__(code) == 0) else 1
