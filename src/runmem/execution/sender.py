"""Sends calls to Dask in a separate thread, those of several milliseconds together, and notes their ends.

::

    program's thread ──add──> CallTable.queue ─┐                     Dask's event loop
    runmem-awaiting ──wait──> CallTable.changed│                       │ reports of workers: appended, no lock
                                               v                       v
    runmem-submitter:  poll ends ──> plan bundles ──> send_graph    deques: durations, timeouts
      takes `_sending`, then `CallTable.changed`, never the other way round; none of them is taken in the event loop,
      because a thread that has the lock may wait for the loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import distributed

from runmem.dask_private import memory_in_use, run_on_workers, send_graph
from runmem.deadlines import within
from runmem.errors import ArgumentError, ClusterError, RunmemError, TaskCancelledError
from runmem.execution.after_deaths import AfterDeaths
from runmem.execution.bundle import Durations, plan
from runmem.execution.call_errors import internal_error, timeout_error
from runmem.execution.call_state import Bundle, state_of
from runmem.execution.call_table import CallTable
from runmem.execution.dask_task import dask_task
from runmem.execution.demands import Demands
from runmem.execution.dying_workers import DyingWorkers
from runmem.execution.placement import Placement, WorkerInfo
from runmem.execution.run_services import RunServices
from runmem.graph.call import Execution
from runmem.serialization.definitions import set_current_definitions
from runmem.serialization.task_error import set_root_task
from runmem.worker.cancellation import cancel_calls

__all__ = ["Sender"]

log = logging.getLogger(__name__)

_GATHER_S = 0.004  # how long calls wait for others to send with them
_RESULT_POLL_S = 0.01
_IDLE_POLL_S = 0.1
_NESTED_POLL_S = 0.5  # hundreds of calls may wait for others in a process, each of which finds out by itself
_DELAYED_POLL_S = 0.003
_MOST_DELAY_S = 30.0  # after this long without a first result, calls of a task are assumed to be slow
_NESTED_DELAY_S = 0.5  # the same for the calls of a task: meanwhile it waits, and takes memory
_CANCEL_S = 5.0
_MOST_CALLS = 1 << 32  # more than any program or task makes

Graph = dict[str, tuple[Callable[..., object], Iterable[object], list[str]]]


class _Timeout(NamedTuple):
    """A call whose time limit has passed."""

    task_id: int
    limit_s: float
    stack: str | None
    where: str


class Sender:
    """Sends the calls of a run.

    Attributes
    ----------
    client : distributed.Client or None
        None until the cluster is connected.
    broken : BaseException or None
        The error if the cluster could not be reached or the connection was lost, else None.
    is_urgent : bool
        Whether the program is waiting for a result, so that queued calls are sent at once instead of being gathered
        into bundles.
    """

    def __init__(self, calls: CallTable, services: RunServices) -> None:
        self._calls = calls
        self._services = services
        self._caller = services.caller
        self.client: distributed.Client | None = None
        self.workers = 1
        self.broken: BaseException | None = None
        self.is_urgent = False
        self.durations = services.durations or Durations()
        # Calls of tasks come before all others, the innermost first: a task that waits takes memory, and a thread.
        self._in_order = services.in_order or self._caller is not None
        self._result_poll_s = _RESULT_POLL_S if self._caller is None else _NESTED_POLL_S
        self._most_delay_s = _MOST_DELAY_S if self._caller is None else _NESTED_DELAY_S
        self._before = 0 if self._caller is None else (self._caller.depth + 1) * _MOST_CALLS
        self._last_moved_s: dict[str, float] = {}
        self._sending = threading.Lock()
        self._reported: deque[tuple[str, int, float, int]] = deque()
        self._memory = services.memory
        self._needs: deque[tuple[str, int, int]] = deque()
        self._fruitless: tuple[int, int] | None = None
        self._timeouts: deque[_Timeout] = deque()
        self._next_poll_s = 0.0
        self._closing = False
        self._thread: threading.Thread | None = None
        memory = self._memory
        self._placement = Placement(
            self._workers_of_cluster, memory is not None and memory.shares, None if memory is None else memory.taken
        )
        self._demands = Demands(self._placement, memory, self._may_wait)
        self._refused: dict[Execution, str] = {}
        calls.release = self._release
        deaths = services.deaths
        self._after_deaths = (
            None if deaths is None else AfterDeaths(calls, deaths, self._workers_of_cluster, self._demands.observe)
        )
        self._dying = None if deaths is None else DyingWorkers(deaths, lambda: len(calls.open))

    def start(self) -> None:
        """Start the thread, unless it was started before; it connects to the cluster first."""
        with self._calls.changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="runmem-submitter", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; calls that were not sent are dropped."""
        with self._calls.changed:
            self._closing = True
            self._calls.changed.notify_all()
        if self._thread is not None and self._caller is None:  # those of a task have ended, and it need not wait
            self._thread.join(timeout=30)

    # --- reports of workers, in the client's event loop, which must never wait for the lock ---------------------------

    def report_durations(self, name: str, calls: int, seconds: float, largest_bytes: int) -> None:
        """Note how long calls of a task lasted on a worker."""
        self._reported.append((name, calls, seconds, largest_bytes))

    def report_need(self, name: str, needed_bytes: int, kept_bytes: int) -> None:
        """Note how much memory a call of a task has needed, and how much of that its worker has in use after it."""
        self._needs.append((name, needed_bytes, kept_bytes))

    def report_timeout(self, task_id: int, limit_s: float, stack: str | None, where: str) -> None:
        """Note that the time limit of a call has passed."""
        self._timeouts.append(_Timeout(task_id, limit_s, stack, where))

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        calls = self._calls
        if self._caller is not None:
            set_current_definitions(self._caller.snapshots.definitions)
        try:
            client, workers = self._services.connect()
        except BaseException as error:
            with calls.changed:
                self.broken = error
                calls.changed.notify_all()
            return
        with calls.changed:
            self.client, self.workers = client, workers
            calls.changed.notify_all()
        while not self._closing:
            with calls.changed:
                if not calls.queue and not self.is_urgent:
                    calls.changed.wait(self._result_poll_s if calls.sent else _IDLE_POLL_S)
                if calls.queue:
                    calls.changed.wait_for(lambda: self.is_urgent, _GATHER_S)
            if not self.run_once():
                return

    def run_once(self) -> bool:
        """Note the calls that have ended and send those that can be sent; return False if the connection is lost."""
        calls = self._calls
        try:
            self._poll_now_and_then()
            while self._timeouts:
                self._end_at_limit(self._timeouts.popleft())
            self._look_at_deaths()
            if calls.to_cancel:
                self._cancel_failed_groups()
            self._send()
            if calls.open and not self._reported:
                calls.stragglers.look(calls.open, self.workers, time.monotonic())
        except Exception as error:
            if self._closing:
                return False
            if isinstance(error, ClusterError) or self._is_lost(error):
                self._break(error)
                return False
            with calls.changed:
                for execution in calls.queue.clear():
                    calls.end(execution, internal_error(execution, error))
                calls.changed.notify_all()
        return True

    def _is_lost(self, error: Exception) -> bool:
        """Return True if an error means that the connection to the cluster is lost."""
        client = self.client
        return isinstance(error, OSError) or client is None or client.status not in ("running", "connecting")

    def _look_at_deaths(self) -> None:
        """Decide about calls whose worker has died. Raise ClusterError if every worker dies as it starts."""
        if self._after_deaths is not None:
            self._after_deaths.decide()
        if self._dying is not None and self.client is not None:
            self._dying.look(self.client, self.workers)

    def _break(self, error: Exception) -> None:
        with self._calls.changed:
            self.broken = error if isinstance(error, ClusterError) else _lost_connection(error)
            self._calls.changed.notify_all()
        if isinstance(error, ClusterError):
            self.abandon()  # who waits for a bundle would wait without end

    def _poll_now_and_then(self) -> None:
        """Poll all bundles that were sent, and spend at most a twentieth of the time on it."""
        start_s = time.monotonic()
        if start_s >= self._next_poll_s:
            self._calls.poll(list(self._calls.sent))
            end_s = time.monotonic()
            self._next_poll_s = end_s + max(_RESULT_POLL_S / 2, 20 * (end_s - start_s))

    def _end_at_limit(self, timeout: _Timeout) -> None:
        """End a call at its time limit as one that failed; the other calls of its bundle run again."""
        calls = self._calls
        with calls.changed:
            found = [bundle for bundle in calls.sent if any(e.task_id == timeout.task_id for e in bundle.executions)]
            for bundle in found:
                others = []
                for execution in calls.recall(bundle):
                    if execution.task_id == timeout.task_id:
                        calls.fail_or_retry(execution, timeout_error(execution, *timeout[1:]))
                    else:
                        others.append(execution)
                calls.requeue(others)
            calls.changed.notify_all()
        self._cancel_bundles(found)

    def _send(self) -> None:
        """Send the queued calls that can be sent now."""
        calls = self._calls
        with self._sending:
            if calls.has_constraints or (self._memory is not None and calls.queue):
                self._placement.refresh()
            bundles, graph, turns = self._next_graph()
            if not graph or self.client is None:
                if calls.queue:
                    with calls.changed:
                        calls.changed.wait(_DELAYED_POLL_S)  # until a duration is known or a worker is free
                return
            try:
                futures = self._send_to_hosts(self.client, bundles, graph, turns if self._in_order else None)
            except Exception as error:
                if self._is_lost(error):
                    raise
                with calls.changed:
                    for bundle in bundles:
                        calls.fail(calls.recall(bundle), error)
                    calls.changed.notify_all()
                return
            with calls.changed:
                for bundle in bundles:
                    if bundle.key in futures:
                        bundle.future = futures[bundle.key]
                        calls.sent[bundle] = None
                calls.changed.notify_all()

    def _next_graph(self) -> tuple[list[Bundle], Graph, dict[str, int]]:
        """Remove the calls to send now from the queue; return their bundles, and Dask tasks and priorities by key."""
        calls = self._calls
        with calls.changed:
            self.is_urgent = False
            self._read_reports()
            if not calls.queue or self._enough_is_sent() or self._fruitless == self._changes():
                return [], {}, {}
            bundles = plan(
                calls.queue,
                self.durations,
                self.workers,
                calls.in_flight,
                self._may_wait,
                self._admit,
                calls.lost,
                self._awaited,
            )
            self._end_refused()
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
                        graph[bundle.key] = dask_task(bundle, self._services.run_id, self._caller)
                        turns[bundle.key] = bundle.turn - self._before
                    except Exception as error:
                        if len(executions) == 1:
                            calls.fail(calls.recall(bundle), error)
                        else:  # sent one by one, the call that causes the error fails alone
                            again.update(executions)
                            calls.requeue(calls.recall(bundle), alone=True)
                for execution in bundle.executions:
                    self._last_moved_s[execution.name] = now_s
            return bundles, graph, turns

    def _changes(self) -> tuple[int, int]:
        """Return what changes whenever a call can be sent that could not be before."""
        return self._calls.queue.changes, self._placement.changes

    def _awaited(self, execution: Execution) -> Execution | None:
        """Return a call that must have ended before this one is sent; None: it can be sent now."""
        if self._memory is None and not self._calls.has_constraints:
            return None
        state, queue = state_of(execution), self._calls.queue
        if self._demands.of(execution) is None:
            return next((needed for needed in state.needs if queue.is_kept_aside(needed)), None)
        # One that gets a place would take it from others while it waits for its inputs.
        return next((needed for needed in state.needs if not state_of(needed).done), None)

    def _admit(self, execution: Execution) -> bool:
        """Return True if a call, whose inputs are ready, can be sent now; give it a place if it has a demand."""
        state, demand = state_of(execution), self._demands.of(execution)
        if demand is None:
            return self._placement.open_hosts() != []
        if any(state_of(needed).error is not None for needed in state.needs):
            return True  # it ends with their error
        in_flight = self._calls.in_flight.total()
        reason = None if state.demand is None else self._placement.refusal(state.demand)
        if reason is None and self._demands.admit(execution, demand, in_flight):
            state.is_placed = True
            return True
        for other in () if demand.alone else state.implementations:
            if self._placement.refusal(other.demand) is not None:
                continue
            expected = self._demands.expected(other.task.name, other.demand) or other.demand
            if self._demands.admit(execution, expected, in_flight):
                state.use(other)
                state.is_placed = True
                return True
            reason = None  # it will fit later
        if reason is not None:
            names = ", ".join(other.task.name for other in state.implementations)
            self._refused[execution] = reason + (f"; neither can its other implementations ({names})" if names else "")
        return False

    def _release(self, execution: Execution) -> None:
        """Take back the place of a call that has ended, or waits again."""
        state_of(execution).is_placed = False
        self._demands.release(execution)

    def _end_refused(self) -> None:
        """End the calls for which no node is large enough."""
        if not self._refused:
            return
        refused, self._refused = self._refused, {}
        for execution in self._calls.queue.remove(refused):
            where = f"call {execution.task_id} of {state_of(execution).place or execution.name}"
            error = ArgumentError(f"{where} cannot run on any node: {refused[execution]}.")
            set_root_task(error, execution.task_id)
            self._calls.end(execution, error)

    def _workers_of_cluster(self) -> list[WorkerInfo]:
        assert self.client is not None
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        measures = self._memory is not None
        return [
            WorkerInfo(name, w["host"], w["nthreads"], w["memory_limit"] or 0, *(memory_in_use(w) if measures else ()))
            for name, w in found.items()
        ]

    def _send_to_hosts(
        self, client: distributed.Client, bundles: Iterable[Bundle], graph: Graph, turns: dict[str, int] | None
    ) -> dict[str, distributed.Future]:
        """Send the Dask tasks.

        Calls placed on a particular host are sent there first; they do not depend on the rest.
        """
        to_hosts: dict[tuple[str, ...] | None, list[str]] = {}
        for bundle in bundles:
            if bundle.key in graph:
                hosts: Sequence[str] | None = None
                if bundle.executions:
                    first = bundle.executions[0]
                    hosts = state_of(first).workers or self._placement.hosts_for(first)
                to_hosts.setdefault(None if not hosts else tuple(hosts), []).append(bundle.key)
        futures: dict[str, distributed.Future] = {}
        for chosen, keys in sorted(to_hosts.items(), key=lambda item: item[0] is None):
            its_turns = None if turns is None else {key: turns[key] for key in keys}
            futures |= send_graph(client, {key: graph[key] for key in keys}, its_turns, chosen)
        return futures

    def _read_reports(self) -> None:
        while self._needs:
            self._demands.observe(*self._needs.popleft())
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
        return time.monotonic() - self._last_moved_s.setdefault(name, time.monotonic()) < self._most_delay_s

    def _enough_is_sent(self) -> bool:
        """Return True if the workers have enough bundles: queued calls can then be grouped into larger ones."""
        calls = self._calls
        first = calls.queue.first
        if first is None or self.durations.calls_per_bundle(first.name) == 1:
            return False
        return sum(len(bundle.executions) > 1 for bundle in calls.sent) >= 2 * self.workers

    # --- cancelling ---------------------------------------------------------------------------------------------------

    def cancel(self, wanted: Collection[Execution]) -> None:
        """Cancel the given calls that have not ended; wait a few seconds at most.

        Once a worker has acknowledged the request, it starts none of them, and those that run are ended. If a bundle
        has not begun, its calls are ended here; otherwise they end with their bundle.
        """
        calls = self._calls
        with self._sending, calls.changed:  # no call is between the queue and `sent`
            for execution in calls.queue.remove(wanted):
                calls.end(execution, TaskCancelledError(execution.name, execution.task_id))
            sent = [bundle for bundle in calls.sent if any(e in wanted for e in bundle.executions)]
            task_ids = [e.task_id for bundle in sent for e in bundle.executions if e in wanted]
            calls.changed.notify_all()
        if not sent or self.client is None:
            return
        keys = [bundle.key for bundle in sent]
        answers = run_on_workers(self.client, cancel_calls, self._services.run_id, task_ids, keys, seconds=_CANCEL_S)
        if any(answer is None for answer in answers.values()):
            return  # that worker may have begun some calls; the others end with their bundles
        begun = {key for answer in answers.values() if isinstance(answer, list) for key in answer}
        with calls.changed:
            recalled = [bundle for bundle in sent if bundle in calls.sent and bundle.key not in begun]
            for bundle in recalled:
                others = []
                for execution in calls.recall(bundle):
                    if execution in wanted:
                        calls.end(execution, TaskCancelledError(execution.name, execution.task_id))
                    else:
                        others.append(execution)
                calls.requeue(others)
            calls.changed.notify_all()
        self._cancel_bundles(recalled)

    def _cancel_failed_groups(self) -> None:
        """Cancel the calls of groups in which a task has raised `COMPSsException`."""
        with self._calls.changed:
            wanted = {e for e in self._calls.to_cancel if not state_of(e).done}
            self._calls.to_cancel.clear()
        if wanted:
            self.cancel(wanted)

    def abandon(self) -> None:
        """Cancel all Dask tasks that were sent, at the end of a run: their results are no longer wanted."""
        with self._calls.changed:
            sent = list(self._calls.sent)
        self._cancel_bundles(sent)

    def _cancel_bundles(self, bundles: Iterable[Bundle]) -> None:
        futures = [bundle.future for bundle in bundles if bundle.future is not None]
        if futures and self.client is not None:
            within(_CANCEL_S, partial(self.client.cancel, futures, force=True))


def _lost_connection(error: Exception) -> RunmemError:
    log.error("calls could not be sent", exc_info=error)
    return RunmemError(
        f"the connection to the Dask cluster failed: {type(error).__name__}: {error}. Look at the scheduler's "
        "log; the tasks that had ended are in the run directory."
    )
