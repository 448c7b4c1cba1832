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
from collections.abc import Collection

import distributed

from runmem.dask_private import memory_in_use, send_graph
from runmem.errors import ClusterError, RunmemError
from runmem.execution.after_deaths import AfterDeaths
from runmem.execution.call_errors import internal_error
from runmem.execution.call_table import CallTable
from runmem.execution.cancellation import Cancellation, Timeout
from runmem.execution.dying_workers import DyingWorkers
from runmem.execution.next_bundles import NextBundles, Outgoing
from runmem.execution.placement import WorkerInfo
from runmem.execution.run_services import RunServices
from runmem.graph.call import Execution
from runmem.serialization.definitions import set_current_definitions

__all__ = ["Sender"]

log = logging.getLogger(__name__)

_GATHER_S = 0.004  # how long calls wait for others to send with them
_RESULT_POLL_S = 0.01
_IDLE_POLL_S = 0.1
_NESTED_POLL_S = 0.5  # hundreds of calls may wait for others in a process, each of which finds out by itself
_DELAYED_POLL_S = 0.003


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
        self._in_order = services.in_order or self._caller is not None
        self._result_poll_s = _RESULT_POLL_S if self._caller is None else _NESTED_POLL_S
        self._sending = threading.Lock()
        self._measures = services.memory is not None
        self._timeouts: deque[Timeout] = deque()
        self._next_poll_s = 0.0
        self._closing = False
        self._thread: threading.Thread | None = None
        self._next = NextBundles(calls, services, self._workers_of_cluster)
        self._cancellation = Cancellation(calls, services.run_id, lambda: self.client, self._sending)
        deaths = services.deaths
        note_need = self._next.demands.observe
        self._after_deaths = None if deaths is None else AfterDeaths(calls, deaths, self._workers_of_cluster, note_need)
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
        self._next.report_durations(name, calls, seconds, largest_bytes)

    def report_need(self, name: str, needed_bytes: int, kept_bytes: int) -> None:
        """Note how much memory a call of a task has needed, and how much of that its worker has in use after it."""
        self._next.report_need(name, needed_bytes, kept_bytes)

    def report_timeout(self, task_id: int, limit_s: float, stack: str | None, where: str) -> None:
        """Note that the time limit of a call has passed."""
        self._timeouts.append(Timeout(task_id, limit_s, stack, where))

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
                self._cancellation.end_at_limit(self._timeouts.popleft())
            self._look_at_deaths()
            if calls.to_cancel:
                self._cancellation.cancel_failed_groups()
            self._send()
            if calls.open and not self._next.has_reports:
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

    def _send(self) -> None:
        """Send the queued calls that can be sent now."""
        calls = self._calls
        with self._sending:
            self._next.look_at_workers()
            with calls.changed:
                self.is_urgent = False
                outgoing = self._next.take(self.workers)
            if not outgoing.graph or self.client is None:
                if calls.queue:
                    with calls.changed:
                        calls.changed.wait(_DELAYED_POLL_S)  # until a duration is known or a worker is free
                return
            try:
                futures = self._send_to_hosts(self.client, outgoing)
            except Exception as error:
                if self._is_lost(error):
                    raise
                with calls.changed:
                    for bundle in outgoing.bundles:
                        calls.fail(calls.recall(bundle), error)
                    calls.changed.notify_all()
                return
            with calls.changed:
                for bundle in outgoing.bundles:
                    if bundle.key in futures:
                        bundle.future = futures[bundle.key]
                        calls.sent[bundle] = None
                calls.changed.notify_all()

    def _workers_of_cluster(self) -> list[WorkerInfo]:
        assert self.client is not None
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        return [
            WorkerInfo(
                name, w["host"], w["nthreads"], w["memory_limit"] or 0, *(memory_in_use(w) if self._measures else ())
            )
            for name, w in found.items()
        ]

    def _send_to_hosts(self, client: distributed.Client, outgoing: Outgoing) -> dict[str, distributed.Future]:
        """Send the Dask tasks.

        Calls placed on a particular host are sent there first; they do not depend on the rest.
        """
        to_hosts: dict[tuple[str, ...] | None, list[str]] = {}
        for bundle in outgoing.bundles:
            if bundle.key in outgoing.graph:
                to_hosts.setdefault(self._next.hosts_for(bundle), []).append(bundle.key)
        futures: dict[str, distributed.Future] = {}
        for hosts, keys in sorted(to_hosts.items(), key=lambda item: item[0] is None):
            turns = {key: outgoing.turns[key] for key in keys} if self._in_order else None
            futures |= send_graph(client, {key: outgoing.graph[key] for key in keys}, turns, hosts)
        return futures

    # --- cancelling ---------------------------------------------------------------------------------------------------

    def cancel(self, wanted: Collection[Execution]) -> None:
        """Cancel the given calls that have not ended, see `Cancellation`."""
        self._cancellation.cancel(wanted)

    def abandon(self) -> None:
        """Cancel what was sent, at the end of a run."""
        self._cancellation.abandon()


def _lost_connection(error: Exception) -> RunmemError:
    log.error("calls could not be sent", exc_info=error)
    return RunmemError(
        f"the connection to the Dask cluster failed: {type(error).__name__}: {error}. Look at the scheduler's "
        "log; the tasks that had ended are in the run directory."
    )
