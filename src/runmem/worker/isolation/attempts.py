"""Calls that may begin only so often, also when Dask runs them again because a worker died.

The scheduler counts how often the Dask task of such a call has begun, and keeps its result: Dask would also make that
again if it was lost with a worker.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

from distributed import Scheduler, SchedulerPlugin

from runmem.dask_private import ask_scheduler
from runmem.serialization.task_error import PackedError
from runmem.worker.isolation.isolated_calls import killed_error
from runmem.worker.packed_call import Outcome

__all__ = ["Attempts", "run_limited"]

_LARGEST_RESULT_BYTES = 64 * 1024


def _operation(run_id: str) -> str:
    return f"runmem-attempts-{run_id}"


class Attempts(SchedulerPlugin):  # type: ignore[misc]
    """Counts on the scheduler how often calls with limited attempts have begun, and keeps their results."""

    def __init__(self, run_id: str) -> None:
        self.name = _operation(run_id)
        self._begun: dict[str, int] = {}
        self._results: dict[str, bytes] = {}

    async def start(self, scheduler: Scheduler) -> None:
        """Answer workers."""
        scheduler.handlers[self.name] = self.answer

    async def answer(self, key: str, result: bytes | None) -> tuple[int, bytes | None]:
        """Keep a result, or (None) count an attempt; return the number of attempts, and the result if it is known."""
        if result is not None:
            self._results[key] = result
        elif key not in self._results:
            self._begun[key] = self._begun.get(key, 0) + 1
        return self._begun.get(key, 0), self._results.get(key)

    def transition(self, key: str, start: str, finish: str, *args: object, **kwargs: object) -> None:
        """Forget a call that nobody needs any more."""
        if finish == "forgotten":
            self._begun.pop(key, None)
            self._results.pop(key, None)


_unanswered: set[str] = set()


def run_limited(run_id: str, key: str, attempts: int, name: str, task_id: int, body: Callable[[], Outcome]) -> Outcome:
    """Run `body`, the call of a Dask task, if it has begun less than `attempts` times; else return its last outcome.

    On a scheduler without runmem it runs as often as Dask tries it.
    """
    number, kept = _ask(run_id, key, None)
    if kept is not None:
        outcome: Outcome = pickle.loads(kept)
        return outcome
    if number > attempts:
        cause = "the worker process that ran it died, and it may not begin again"
        return False, PackedError.of(killed_error(name, task_id, cause))
    outcome = body()
    data = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
    if len(data) <= _LARGEST_RESULT_BYTES:
        _ask(run_id, key, data)
    return outcome


def _ask(run_id: str, key: str, result: bytes | None) -> tuple[int, bytes | None]:
    if run_id not in _unanswered:
        try:
            answer: tuple[int, bytes | None] = ask_scheduler(_operation(run_id), key=key, result=result)
            return answer
        except Exception:
            _unanswered.add(run_id)
    return 0, None
