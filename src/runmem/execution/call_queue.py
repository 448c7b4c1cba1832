"""Calls that wait to be sent, in the order of the program.

The invariant: the queue is sorted by the numbers that executions get when they enter it first, and an execution needs
only such with a smaller number. So what is needed stands before what needs it, also when calls are put back because
their worker died or a call that they shared a Dask task with has failed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import count

from runmem.graph.call import Execution

__all__ = ["CallQueue"]


class CallQueue:
    """A queue of executions; `state.number` of each is its place in the order of the program."""

    def __init__(self) -> None:
        self._waiting: list[Execution] = []
        self._first = 0  # those before it were taken
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._waiting) - self._first

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._waiting[self._first :])

    @property
    def first(self) -> Execution:
        """The execution that is next."""
        return self._waiting[self._first]

    def append(self, execution: Execution) -> None:
        """Add an execution that was never in the queue; it may need any that was."""
        execution.state.number = next(self._numbers)
        self._waiting.append(execution)

    def take(self) -> Execution:
        """Remove the first execution and return it."""
        execution = self._waiting[self._first]
        self._first += 1
        if self._first > 1000 and self._first > len(self._waiting) // 2:
            del self._waiting[: self._first]
            self._first = 0
        return execution

    def put_back(self, executions: Iterable[Execution]) -> None:
        """Add executions that were taken before, each where it belongs."""
        again = sorted(executions, key=_number)
        if again:
            end = bisect_left(self._waiting, _number(again[-1]), lo=self._first, key=_number)
            passed = self._waiting[self._first : end]
            self._waiting[: end] = sorted([*passed, *again], key=_number)
            self._first = 0

    def clear(self) -> list[Execution]:
        """Remove all executions and return them."""
        left = list(self)
        self._waiting, self._first = [], 0
        return left


def _number(execution: Execution) -> int:
    number: int = execution.state.number
    return number
