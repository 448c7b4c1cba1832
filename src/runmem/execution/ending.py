"""The end of a run: steps that stand alone, and what is told of calls that it cut off."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["CutOff", "Steps", "ended_by"]

Value = TypeVar("Value")


class Steps:
    """Does one step of an end after the other; one that fails is told of, and keeps none of the others from being done.

    Parameters
    ----------
    tell : callable
        Takes what could not be done, and why.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell

    def __call__(self, what: str, step: Callable[..., Value], *arguments: Any) -> Value | None:
        """Do a step and return what it returns; None if it fails."""
        try:
            return step(*arguments)
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._tell(f"the end of the run: {what}", f"{type(error).__name__}: {reason or 'no reason is given'}")
            return None


class CutOff(NamedTuple):
    """What the end of a program meant for its calls.

    Attributes
    ----------
    reason : str
        How the program ended.
    cancelled : int
        Tasks that ran and were cancelled.
    not_begun : int
        Calls that had not begun, as far as it is known; where memory is not measured, also those that ran.
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


def ended_by(exit_code: int | None) -> str:
    """Say how a program ended whose calls were not waited for."""
    if not exit_code:
        return "the program ended"
    try:
        return f"the program was ended by {signal.Signals(exit_code - 128).name}"
    except ValueError:
        return f"the program ended with exit code {exit_code}"
