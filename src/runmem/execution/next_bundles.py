"""Chooses the calls to send now, and makes the Dask tasks of their bundles. Sends nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from runmem.execution.bundle import Durations, plan
from runmem.execution.call_state import Bundle, state_of
from runmem.execution.call_table import CallTable
from runmem.execution.dask_task import dask_task
from runmem.execution.demands import Demands
from runmem.execution.placement import Placement, WorkerInfo
from runmem.execution.run_services import RunServices
from runmem.graph.call import Execution

__all__ = ["Graph", "NextBundles", "Outgoing"]

_MOST_DELAY_S = 30.0  # after this long without a first result, calls of a task are assumed to be slow
_NESTED_DELAY_S = 0.5  # the same for the calls of a task: meanwhile it waits, and takes memory
_MOST_CALLS = 1 << 32  # more than any program or task makes

Graph = dict[str, tuple[Callable[..., object], Iterable[object], list[str]]]


class Outgoing(NamedTuple):
    """Bundles to send, and their Dask tasks and priorities by key."""

    bundles: list[Bundle]
    graph: Graph
    turns: dict[str, int]


class NextBundles:
    """Takes calls from the queue when they can be sent.

    Parameters
    ----------
    calls : CallTable
    services : RunServices
    workers : callable
        Returns the workers of the cluster.

    Attributes
    ----------
    durations : Durations
    demands : Demands
    """

    def __init__(self, calls: CallTable, services: RunServices, workers: Callable[[], Sequence[WorkerInfo]]) -> None:
        self._calls = calls
        self._run_id = services.run_id
        self._caller = caller = services.caller
        self._memory = memory = services.memory
        self.durations = services.durations or Durations()
        self._most_delay_s = _MOST_DELAY_S if caller is None else _NESTED_DELAY_S
        # Calls of tasks come before all others, the innermost first: a task that waits takes memory, and a thread.
        self._before = 0 if caller is None else (caller.depth + 1) * _MOST_CALLS
        self._last_moved_s: dict[str, float] = {}
        self._reported: deque[tuple[str, int, float, int]] = deque()
        self._needs: deque[tuple[str, int, int]] = deque()
        self._fruitless: tuple[int, int] | None = None
        self._placement = Placement(
            workers, memory is not None and memory.shares, None if memory is None else memory.taken
        )
        self.demands = Demands(self._placement, memory, self._may_wait)
        calls.release = self.demands.release

    # --- reports of workers, in the client's event loop, which must never wait for the lock ---------------------------

    def report_durations(self, name: str, calls: int, seconds: float, largest_bytes: int) -> None:
        """Note how long calls of a task lasted on a worker."""
        self._reported.append((name, calls, seconds, largest_bytes))

    def report_need(self, name: str, needed_bytes: int, kept_bytes: int) -> None:
        """Note how much memory a call of a task has needed, and how much of that its worker has in use after it."""
        self._needs.append((name, needed_bytes, kept_bytes))

    @property
    def has_reports(self) -> bool:
        """Whether durations were reported that have not been looked at."""
        return bool(self._reported)

    # --- the sender's thread ------------------------------------------------------------------------------------------

    def look_at_workers(self) -> None:
        """Ask the cluster for its workers, if calls are placed by what they need."""
        if self._calls.has_constraints or (self._memory is not None and self._calls.queue):
            self._placement.refresh()

    def take(self, workers: int) -> Outgoing:
        """Remove the calls to send now from the queue; the caller has the lock.

        Parameters
        ----------
        workers : int
            Number of workers of the cluster.
        """
        calls = self._calls
        self._read_reports()
        if not calls.queue or self._enough_is_sent(workers) or self._fruitless == self._changes():
            return Outgoing([], {}, {})
        bundles = plan(
            calls.queue,
            self.durations,
            workers,
            calls.in_flight,
            self._may_wait,
            self.demands.admit,
            calls.lost,
            self._awaited,
        )
        self.demands.end_refused(calls)
        # With `--memory_aware` the workers are asked again a moment later.
        self._fruitless = self._changes() if not bundles and self._memory is not None else None
        graph: Graph = {}
        turns: dict[str, int] = {}
        again: set[Execution] = set()
        now_s = time.monotonic()
        for bundle in bundles:
            self._remove_failed(bundle)
            executions = bundle.executions
            if again and any(needed in again for e in executions for needed in state_of(e).needs):
                again.update(executions)
                calls.requeue(calls.recall(bundle))
            elif executions:
                try:
                    graph[bundle.key] = dask_task(bundle, self._run_id, self._caller)
                    turns[bundle.key] = bundle.turn - self._before
                except Exception as error:
                    if len(executions) == 1:
                        calls.fail(calls.recall(bundle), error)
                    else:  # sent one by one, the call that causes the error fails alone
                        again.update(executions)
                        calls.requeue(calls.recall(bundle), single=True)
            for execution in bundle.executions:
                self._last_moved_s[execution.name] = now_s
        return Outgoing(bundles, graph, turns)

    def hosts_for(self, bundle: Bundle) -> tuple[str, ...] | None:
        """Return the hosts, or the addresses of workers, on which a bundle may run; None: any."""
        if not bundle.executions:
            return None
        first = bundle.executions[0]
        return tuple(state_of(first).workers or self._placement.hosts_for(first) or ()) or None

    def _changes(self) -> tuple[int, int]:
        """Return numbers that grow whenever a call can be sent that could not be before."""
        return self._calls.queue.changes, self._placement.changes

    def _awaited(self, execution: Execution) -> Execution | None:
        """Return a call that must have ended before this one is sent; None: it can be sent now."""
        if self._memory is None and not self._calls.has_constraints:
            return None
        state, queue = state_of(execution), self._calls.queue
        if self.demands.of(execution) is None:
            return next((needed for needed in state.needs if queue.is_kept_aside(needed)), None)
        # One that gets a place would take it from others while it waits for its inputs.
        return next((needed for needed in state.needs if not state_of(needed).done), None)

    def _read_reports(self) -> None:
        while self._needs:
            self.demands.observe(*self._needs.popleft())
            self._fruitless = None
        while self._reported:
            report = self._reported.popleft()
            self.durations.observe(*report)
            self._fruitless = None
            self._last_moved_s[report[0]] = time.monotonic()

    def _remove_failed(self, bundle: Bundle) -> None:
        """End those calls of a bundle that depend on a failed call, and drop them from it."""
        left = []
        for execution in bundle.executions:
            if self._calls.ends_with_its_inputs(execution):
                self._calls.in_flight[execution.name] -= 1
            else:
                left.append(execution)
        bundle.executions = left

    def _may_wait(self, name: str) -> bool:
        """Return True if calls of a task may still wait until the first of them has ended."""
        return time.monotonic() - self._last_moved_s.setdefault(name, time.monotonic()) < self._most_delay_s

    def _enough_is_sent(self, workers: int) -> bool:
        """Return True if the workers have enough bundles: queued calls can then be grouped into larger ones."""
        calls = self._calls
        first = calls.queue.first
        if first is None or self.durations.calls_per_bundle(first.name) == 1:
            return False
        return sum(len(bundle.executions) > 1 for bundle in calls.sent) >= 2 * workers
