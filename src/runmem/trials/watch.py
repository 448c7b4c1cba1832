"""Choose the methods that watch an execution: all together, unless tracing slows the command down."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from runmem.trials.methods import Method
from runmem.trials.outcome import CommandOutcome

__all__ = ["Watch", "is_slowed_down"]

_SLOWDOWN = 0.01  # of the wall time, so that reported times are right to 2 %
_LEAST_S = 0.005  # tracing a few processes takes as long, less than the start of one program


class Watch(StrEnum):
    """The methods that watch one execution.

    A program that starts many short processes is slowed down by tracing, which stops each of them (`hwm`). Its first
    execution, under all methods, shows this; after that `hwm` and the other methods measure separate executions.
    """

    ALL = "all methods"
    UNTRACED = "methods that stop nothing"
    TRACED = "hwm alone"
    NOTHING = "nothing"

    def methods(self, every: Sequence[type[Method]]) -> list[type[Method]]:
        """Return the methods of `every` that watch the execution."""
        if self is Watch.NOTHING:
            return []
        return [each for each in every if self is Watch.ALL or each.traces is (self is Watch.TRACED)]


def is_slowed_down(outcome: CommandOutcome) -> bool:
    """Return True if tracing stopped the command for more than a hundredth of its wall time."""
    if outcome.stopped_s is None or not outcome.wall_s:
        return False
    return outcome.stopped_s > max(_SLOWDOWN * outcome.wall_s, _LEAST_S)
