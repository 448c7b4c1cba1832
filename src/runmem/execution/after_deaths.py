"""Decides what happens to calls whose worker has died: again as before, again alone on a node, or failure.

::

    CallTable: Dask has given up a bundle ──> `lost`: its calls wait in the queue ──> AfterDeaths.decide
                                                   collector: cause, calls that ran ──^     (sender's thread)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf

from runmem.collection.process_deaths import DiedWorker, Kill
from runmem.deaths import Death
from runmem.errors import TaskKilledError
from runmem.execution.call_errors import attempts
from runmem.execution.call_state import CallState, state_of
from runmem.execution.call_table import CallTable
from runmem.execution.death_news import DeathNews
from runmem.execution.placement import WorkerInfo
from runmem.graph.call import Execution
from runmem.serialization.error_parts import text_of
from runmem.standard_error import say
from runmem.units import MIB, format_bytes
from runmem.worker.isolation.isolated_calls import killed_error

__all__ = ["AfterDeaths", "no_room_alone"]

_LONGEST_WAIT_S = 2.5  # for the cause of a death, and for the record of the call
_EMPTY_WORKER_BYTES = 64 * MIB


class AfterDeaths:
    """Decides about the calls in `CallTable.lost`, as soon as the cause of the death is known.

    A call that had not begun when the worker died runs again as if nothing had happened. One that ran, or may have run,
    is tried again up to Dask's number of tries (`distributed.scheduler.allowed-failures`). If the worker died for its
    memory, the call runs once more alone on a node, or fails at once, as `on_memory` says.

    Parameters
    ----------
    calls : CallTable
    news : DeathNews
    workers : callable
        Returns the workers of the cluster.
    note_need : callable
        Takes the name of a task, and the memory, in bytes, that a call of it had taken when it was killed for memory.
    """

    def __init__(
        self,
        calls: CallTable,
        news: DeathNews,
        workers: Callable[[], Sequence[WorkerInfo]],
        note_need: Callable[[str, int], None] = lambda name, size: None,
    ) -> None:
        self._calls = calls
        self._news = news
        self._workers = workers
        self._note_need = note_need

    def decide(self) -> None:
        """Decide about the calls of which enough is known; called now and then by the sender's thread."""
        calls = self._calls
        if not calls.lost:
            return
        now_s = time.monotonic()
        with calls.changed:
            waiting = list(calls.lost.items())
        said: list[str] = []
        for execution, loss in waiting:
            died, kill = self._news.died(loss.worker), self._news.last_kill(execution.task_id)
            if died is None and kill is not None and not self._is_old(execution, kill) and kill.record is not None:
                died = DiedWorker(kill.record.death or Death.unknown(kill.text))  # with its node, which sends no news
            is_late = now_s - loss.since_s > _LONGEST_WAIT_S
            ran = died is None or not died.calls or execution.task_id in died.calls
            if not is_late and (died is None or ran and self._news.measures and self._is_old(execution, kill)):
                continue
            with calls.changed:
                if calls.lost.get(execution) == loss:  # else it was cancelled meanwhile
                    del calls.lost[execution]
                    if ran and (line := self._decide(execution, died, kill)) is not None:
                        said.append(line)
                    calls.changed.notify_all()
        for text in said:
            say(text)

    def _is_old(self, execution: Execution, kill: Kill | None) -> bool:
        """Return True if a kill is that of an earlier attempt at a call, or none."""
        return kill is state_of(execution).kill

    def _decide(self, execution: Execution, died: DiedWorker | None, kill: Kill | None) -> str | None:
        """Fail a call that ran, or let it run again; return a line for the user, if any. The caller has the lock."""
        state = state_of(execution)
        state.deaths += 1
        state.kill = kill if kill is not None else state.kill
        if kill is None and died is not None:
            self._calls.kills[execution.task_id] = Kill(died.death.words, None, died.death)
        if state.attempts is not None and state.deaths >= state.attempts:
            cause = "the worker process that ran it died, and it may not begin again"
            self._fail(execution, killed_error(execution.name, execution.task_id, cause), is_final=True)
            return None
        if died is None or not died.death.is_for_memory:
            state.is_single = True
            if state.deaths - state.memory_deaths >= attempts():
                self._fail(execution, TaskKilledError(execution.name, execution.task_id), is_final=False)
            return None
        state.memory_deaths += 1
        if (record := None if kill is None else kill.record) is not None and record.increment_bytes is not None:
            self._note_need(execution.name, record.increment_bytes)
        error = TaskKilledError(execution.name, execution.task_id)
        if state.on_memory == "fail":
            error.tried = 'It was not tried again, because on_memory is "fail".'
        elif state.memory_deaths > 1:
            error.tried = f"The last time it ran {_how(state)}."
        elif (refusal := self._prepare(state, died, kill)) is not None:
            error.tried = f"It was not tried again: {refusal}."
        else:
            state.is_single = state.runs_alone = True
            why = "" if self._news.measures else f"{died.death.words}; "  # else the cause is printed with its record
            return f"runmem: task {execution.name} (call {execution.task_id}): {why}it is tried again, {_how(state)}"
        self._fail(execution, error, is_final=True)
        return None

    def _prepare(self, state: CallState, died: DiedWorker, kill: Kill | None) -> str | None:
        """Choose where a call runs again; return why it cannot, or None."""
        if state.on_memory == "retry_alone":
            return no_room_alone(died, kill)
        limit_bytes = _worker_limit(died, kill)
        try:
            state.workers = larger_workers(self._workers(), limit_bytes)
        except Exception as error:  # the scheduler does not answer
            return f"the workers of the cluster are not known ({text_of(error)})"
        state.runs_larger = not state.workers and self._news.can_raise
        if state.workers or state.runs_larger:
            return None
        than = "than that" if limit_bytes is None else f"than {format_bytes(limit_bytes)}"
        return (
            f"no worker of the cluster has a limit known to be larger {than}, and runmem raises only the limits of "
            "workers that it has started"
        )

    def _fail(self, execution: Execution, error: TaskKilledError, is_final: bool) -> None:
        """Fail a call; with `is_final` also if its task has `on_failure="RETRY"`."""
        calls, state = self._calls, state_of(execution)
        error.tries = state.deaths
        calls.queue.remove({execution})
        calls.fail_or_retry(execution, error, is_final=is_final)


def _how(state: CallState) -> str:
    """Describe how a call runs again."""
    if state.runs_larger:
        return "alone on its node, with the memory of the node as limit"
    return "alone on its node" + (", in a worker with a larger limit" if state.workers else "")


def _worker_limit(died: DiedWorker, kill: Kill | None) -> int | None:
    """Return the limit of a worker that has died, as far as it is known."""
    if kill is not None and kill.record is not None and kill.record.limit_bytes is not None:
        return kill.record.limit_bytes
    return died.death.limit_bytes


def larger_workers(workers: Sequence[WorkerInfo], limit_bytes: int | None) -> tuple[str, ...]:
    """Return the addresses of the workers with the largest limit, or none, if that is larger than `limit_bytes`."""
    limits = {worker.address: worker.limit_bytes or inf for worker in workers}
    largest = max(limits.values(), default=0)
    if limit_bytes is None or largest <= limit_bytes:
        return ()
    return tuple(address for address, limit in limits.items() if limit == largest)


def no_room_alone(died: DiedWorker, kill: Kill | None) -> str | None:
    """Return why a call whose worker was killed for memory cannot run alone in a worker like that; None if it may.

    A reading is the least that the call needs: it was killed before it had all. So it is tried unless even that much is
    too large.
    """
    record, limit_bytes = None if kill is None else kill.record, died.death.limit_bytes
    if record is None or record.peak_bytes is None or record.base_bytes is None or limit_bytes is None:
        return None
    worker_bytes = record.limit_bytes or limit_bytes
    usable_bytes = min(limit_bytes, worker_bytes)
    grown_bytes = record.peak_bytes - record.base_bytes
    if grown_bytes + _EMPTY_WORKER_BYTES <= usable_bytes:
        return None
    return (
        f"it had grown by {format_bytes(grown_bytes)}, which a worker with a limit of {format_bytes(usable_bytes)} has "
        "no room for, even alone on its node"
    )
