"""Calls that wait to be sent, in the order of the program.

The invariant: the queue is sorted by the numbers that executions get when they first enter it, and an execution needs
only executions with smaller numbers. So each call comes after those that it needs, also when calls return to the queue
because their worker died or another call of their Dask task failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator
from itertools import count

from runmem.execution.call_state import state_of
from runmem.graph.call import Execution

__all__ = ["CallQueue"]


class CallQueue:
    """Queue of executions, sorted by `CallState.number`."""

    def __init__(self) -> None:
        self._waiting: deque[Execution] = deque()
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._waiting)

    @property
    def first(self) -> Execution:
        """The next execution."""
        return self._waiting[0]

    def append(self, execution: Execution) -> None:
        """Add a new execution, which may need any that was added before."""
        state_of(execution).number = next(self._numbers)
        self._waiting.append(execution)

    def take(self) -> Execution:
        """Remove the first execution and return it."""
        return self._waiting.popleft()

    def put_back(self, executions: Iterable[Execution]) -> None:
        """Return executions that were removed before to their places in the order."""
        again = sorted(executions, key=_number)
        passed = []
        while again and self._waiting and _number(self._waiting[0]) < _number(again[-1]):
            passed.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(sorted([*passed, *again], key=_number)))

    def remove(self, executions: Container[Execution]) -> list[Execution]:
        """Remove those of these executions that wait here; return them in their order."""
        removed = [execution for execution in self._waiting if execution in executions]
        if removed:
            self._waiting = deque(execution for execution in self._waiting if execution not in executions)
        return removed

    def clear(self) -> list[Execution]:
        """Remove all executions and return them."""
        left = list(self._waiting)
        self._waiting.clear()
        return left


def _number(execution: Execution) -> int:
    return state_of(execution).number
