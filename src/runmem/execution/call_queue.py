"""Calls that wait to be sent, in the order of the program.

The invariant: the queue is sorted by the numbers that executions get when they enter it first, and an execution needs
only such with a smaller number. So what is needed stands before what needs it, also when calls are put back because
their worker died or a call that they shared a Dask task with has failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import count

from runmem.graph.call import Execution

__all__ = ["CallQueue"]


class CallQueue:
    """A queue of executions; `state.number` of each is its place in the order of the program."""

    def __init__(self) -> None:
        self._waiting: deque[Execution] = deque()
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._waiting)

    @property
    def first(self) -> Execution:
        """The execution that is next."""
        return self._waiting[0]

    def append(self, execution: Execution) -> None:
        """Add an execution that was never in the queue; it may need any that was."""
        execution.state.number = next(self._numbers)
        self._waiting.append(execution)

    def take(self) -> Execution:
        """Remove the first execution and return it."""
        return self._waiting.popleft()

    def put_back(self, executions: Iterable[Execution]) -> None:
        """Add executions that were taken before, each where it belongs."""
        again = sorted(executions, key=_number)
        passed = []
        while again and self._waiting and _number(self._waiting[0]) < _number(again[-1]):
            passed.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(sorted([*passed, *again], key=_number)))

    def clear(self) -> list[Execution]:
        """Remove all executions and return them."""
        left = list(self._waiting)
        self._waiting.clear()
        return left


def _number(execution: Execution) -> int:
    number: int = execution.state.number
    return number
