"""Which methods watch an execution: all together, unless following the processes of the command disturbs it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from runmem.trials.methods import Method
from runmem.trials.outcome import Outcome

__all__ = ["Watch", "is_disturbed"]

_DISTURBED = 0.01  # of the wall time; what is told of the command's time is to be right to 2 %
_LEAST_S = 0.005  # a few processes have it, and it is nothing beside the start of one program


class Watch(StrEnum):
    """What watches one execution.

    A program that starts many short processes feels that each is stopped at its exit (`hwm`). It is found out by its
    first execution, under all methods; from then on the other methods and `hwm` have executions of their own.
    """

    ALL = "all methods"
    UNTRACED = "methods that stop nothing"
    TRACED = "hwm alone"
    NOTHING = "nothing"

    def methods(self, every: Sequence[type[Method]]) -> list[type[Method]]:
        """Return those of the methods that take part."""
        if self is Watch.NOTHING:
            return []
        return [each for each in every if self is Watch.ALL or each.traces is (self is Watch.TRACED)]


def is_disturbed(outcome: Outcome) -> bool:
    """Tell whether the command stood still, for being followed, for more than a hundredth of its time."""
    if outcome.stopped_s is None or not outcome.wall_s:
        return False
    return outcome.stopped_s > max(_DISTURBED * outcome.wall_s, _LEAST_S)
