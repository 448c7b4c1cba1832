"""Numbers of the calls that tasks make: the scheduler gives each worker numbers that no other gets."""

from __future__ import annotations

import secrets
import threading

from distributed import Scheduler, SchedulerPlugin

from runmem.dask_private import ask_scheduler
from runmem.events import FIRST_NESTED

__all__ = ["NestedNumbers", "NumberSource"]

_NUMBERS_EACH = 1 << 15


def _operation(run_id: str) -> str:
    return f"runmem-nested-numbers-{run_id}"


class NumberSource(SchedulerPlugin):  # type: ignore[misc]
    """Gives numbers to workers, from the scheduler."""

    def __init__(self, run_id: str) -> None:
        self.name = _operation(run_id)
        self._next = FIRST_NESTED

    async def start(self, scheduler: Scheduler) -> None:
        """Answer workers."""
        scheduler.handlers[self.name] = self.answer

    async def answer(self) -> int:
        """Return the first of the numbers that the worker which asks may give."""
        first, self._next = self._next, self._next + _NUMBERS_EACH
        return first


class NestedNumbers:
    """Numbers the calls that tasks make in this process.

    On a scheduler without runmem the numbers are long, begin at random, and may clash, which is improbable.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._lock = threading.Lock()
        self._left = iter(range(0))

    def next(self) -> int:
        """Return a number; called inside a task."""
        with self._lock:
            for number in self._left:
                return number
            try:
                first = int(ask_scheduler(_operation(self._run_id)))
            except Exception:
                first = FIRST_NESTED * (2 + secrets.randbelow(1 << 20)) + secrets.randbelow(1 << 15) * _NUMBERS_EACH
            self._left = iter(range(first + 1, first + _NUMBERS_EACH))
            return first
