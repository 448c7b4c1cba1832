"""Calls that wait to be sent, in the order of the program, or with `by_turn` so that results are used soon.

The invariant: the queue is sorted by the numbers that executions get when they first enter it, and an execution needs
only executions with smaller numbers. So each call comes after those that it needs, also when calls return to the queue
because their worker died or another call of their Dask task failed. That holds for the order by turn and number too:
the turn of a call is never lower than that of a call whose result it needs (`CallState.set_turn`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from runmem.execution.call_state import state_of
from runmem.graph.call import Execution

__all__ = ["CallQueue"]


_Entry = tuple[int, int, Execution]


class CallQueue:
    """Queue of executions, sorted by `CallState.number`.

    Those that wait for another execution are kept aside until it ends, so that nobody looks at them in vain.

    Parameters
    ----------
    by_turn : bool
        Whether it is sorted by `CallState.turn` first: calls that use results, and so free their memory, then come
        before calls that make more.

    Attributes
    ----------
    changes : int
        Grows with each execution that comes in or can be taken again.
    """

    def __init__(self, by_turn: bool = False) -> None:
        self._by_turn = by_turn
        self._ready: list[_Entry] = []  # a heap
        self._aside: dict[Execution, list[Execution]] = {}  # by the execution whose end they wait for
        self._kept_aside: set[Execution] = set()
        self._numbers = count(1)
        self.changes = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._kept_aside)

    def __iter__(self) -> Iterator[Execution]:
        return iter(self._sorted([*(entry[2] for entry in self._ready), *self._kept_aside]))

    @property
    def first(self) -> Execution | None:
        """The next execution that can be taken; None if there is none."""
        return self._ready[0][2] if self._ready else None

    def append(self, execution: Execution) -> None:
        """Add a new execution, which may need any that was added before."""
        state = state_of(execution)
        state.number = next(self._numbers)
        state.set_turn()
        self.put_back([execution])

    def take(self) -> Execution:
        """Remove the first execution and return it."""
        return heappop(self._ready)[2]

    def put_back(self, executions: Iterable[Execution]) -> None:
        """Return executions that were removed before to their places in the order."""
        for execution in executions:
            heappush(self._ready, self._entry(execution))
            self.changes += 1

    def keep_aside(self, execution: Execution, awaited: Execution) -> None:
        """Return an execution that was taken; it can be taken again when `awaited` has ended."""
        self._aside.setdefault(awaited, []).append(execution)
        self._kept_aside.add(execution)

    def is_kept_aside(self, execution: Execution) -> bool:
        """Return True if an execution waits here for another one."""
        return execution in self._kept_aside

    def ended(self, execution: Execution) -> None:
        """Let those be taken again that wait for this execution."""
        if self._aside and (waiting := self._aside.pop(execution, None)) is not None:
            still = [each for each in waiting if each in self._kept_aside]
            self._kept_aside.difference_update(still)
            self.put_back(still)

    def remove(self, executions: Container[Execution]) -> list[Execution]:
        """Remove those of these executions that wait here; return them in their order."""
        ready = [entry[2] for entry in self._ready if entry[2] in executions]
        aside = [execution for execution in self._kept_aside if execution in executions]
        if ready:
            self._ready = [entry for entry in self._ready if entry[2] not in executions]
            heapify(self._ready)
        self._kept_aside.difference_update(aside)
        return self._sorted([*ready, *aside])

    def clear(self) -> list[Execution]:
        """Remove all executions and return them."""
        left = list(self)
        self._ready.clear()
        self._aside.clear()
        self._kept_aside.clear()
        return left

    def _sorted(self, executions: list[Execution]) -> list[Execution]:
        return sorted(executions, key=self._entry)

    def _entry(self, execution: Execution) -> _Entry:
        state = state_of(execution)
        return state.turn if self._by_turn else 0, state.number, execution
