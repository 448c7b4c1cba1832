"""The unfinished calls of a run: those in the queue, those that were sent, and how each ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from distributed.scheduler import KilledWorker

from runmem.collection.process_deaths import Kill
from runmem.errors import TaskCancelledError, TaskKilledError
from runmem.events import TaskEnded
from runmem.execution.call_errors import error_of, error_of_call, internal_error
from runmem.execution.call_queue import CallQueue
from runmem.execution.call_state import Bundle, state_of
from runmem.execution.failure_policy import (
    final_error,
    is_failure,
    is_own_error,
    keeps_files,
    never_ran,
    note_cancelled,
    outputs_of_ignored,
)
from runmem.execution.run_services import RunServices
from runmem.execution.stragglers import Stragglers
from runmem.execution.unseen_errors import UnseenErrors
from runmem.graph.call import Execution
from runmem.graph.failure import MOST_TRIES, Management
from runmem.serialization.packed import Wrapped
from runmem.serialization.task_error import root_task
from runmem.worker.packed_call import BundleFailed, Outcome

__all__ = ["CallTable", "Loss"]

_LONGEST_QUEUE = 50_000  # calls, of about 0.5 KiB each and their arguments
_STALL_S = 1.0


class Loss(NamedTuple):
    """The death of the worker that had a call: its address, and when that was noticed, on the monotonic clock."""

    worker: str
    since_s: float


class CallTable:
    """State of the calls of a run, under one lock. Methods take the lock themselves, except where they say otherwise.

    Attributes
    ----------
    changed : Condition
        The lock; notified when calls were added or sent, or have ended.
    queue : CallQueue
        Calls that wait to be sent.
    open : dict of Execution
        Calls in the queue and calls that were sent: kept alive until they have ended.
    sent : dict of Bundle
    in_flight : Counter
        Number of calls that were sent and have not ended, by task name.
    unseen : UnseenErrors
    finished : int
        Number of calls that ended without an error.
    failed : set of int
        Numbers of the calls that ended with an error: their own, or that of a call that they need.
    has_constraints : bool
        Whether any call so far has had a `CallState.demand`.
    release : callable
        Frees the threads and memory reserved for a call that has ended or was requeued; set by the sender.
    to_cancel : set of Execution
        Calls of groups that have failed.
    kills : dict of Kill
        How calls without a record were killed, by number.
    lost : dict of Execution to Loss
        Calls in the queue whose worker has died; what happens to them is not decided yet.
    """

    def __init__(self, services: RunServices, longest_queue: int = _LONGEST_QUEUE) -> None:
        observers = services.observers
        self.changed = threading.Condition(threading.RLock())
        self.queue = CallQueue(by_turn=services.memory is not None)
        self._longest_queue = longest_queue
        self.open: dict[Execution, None] = {}
        self.sent: dict[Bundle, None] = {}
        self.in_flight: Counter[str] = Counter()
        self.unseen = UnseenErrors()
        self.finished = 0
        self.failed: set[int] = set()
        self.to_cancel: set[Execution] = set()
        self.kills: dict[int, Kill] = {}
        self.lost: dict[Execution, Loss] = {}
        self._deaths = services.deaths
        self.has_constraints = False
        self.release: Callable[[Execution], None] = lambda execution: None
        self._cancelling: dict[int, TaskCancelledError] = {}
        self.stragglers = Stragglers(observers.task_waited_for, services.now, services.running)
        self._report_ended = observers.task_ended if observers.hears("task_ended") else None

    def add(self, execution: Execution) -> bool:
        """Add a call or a value to the queue; return True if the queue was empty."""
        self.stragglers.moved(time.monotonic())
        with self.changed:
            self.open[execution] = None
            self.queue.append(execution)
            if len(self.queue) > 1:
                return False
            self.changed.notify_all()
            return True

    def wait_for_room(self) -> None:
        """Wait while the queue is very long, so that the memory of the master does not grow with the number of calls.

        If no call ends meanwhile, the calls may need what the program does next, such as a message on a stream.
        """
        while len(self.queue) >= self._longest_queue:
            with self.changed:
                unfinished = len(self.open)
                self.changed.wait_for(lambda: len(self.queue) < self._longest_queue, _STALL_S)
                if len(self.open) >= unfinished:
                    return

    # --- under the caller's lock --------------------------------------------------------------------------------------

    def end(self, execution: Execution, error: BaseException | None) -> None:
        """Note the end of an execution, or the error of a rerun after its result was lost; the caller has the lock."""
        state = state_of(execution)
        if state.done and error is state.error:
            return
        self.release(execution)
        self._count(execution, error is None)
        state.done, state.error = True, error
        self.queue.ended(execution)
        note_cancelled(execution, error)
        state.keeps_files, state.never_ran = keeps_files(execution, error), never_ran(execution, error)
        if error is not None and execution.group is not None and is_own_error(execution, error):
            self.to_cancel.update(execution.group.fail(execution, error))
        self.stragglers.moved(time.monotonic())
        state.release_inputs()
        self.open.pop(execution, None)
        self.lost.pop(execution, None)
        if error is not None and execution.task_id:
            self.failed.add(execution.task_id)
        if error is not None and type(error) is not TaskCancelledError:
            self.unseen.add(execution, error)
        if self._report_ended is not None and execution.task_id:
            status = (
                "finished"
                if error is None
                else "cancelled"
                if type(error) is TaskCancelledError and state.never_ran
                else "failed"
            )
            self._report_ended(TaskEnded(execution.task_id, execution.name, status))

    def recall(self, bundle: Bundle) -> list[Execution]:
        """Remove a bundle from those sent; return its calls. The caller has the lock."""
        self.sent.pop(bundle, None)
        self.in_flight.subtract(e.name for e in bundle.executions if not state_of(e).has_value)
        executions, bundle.executions = bundle.executions, []
        return executions

    def requeue(self, executions: Sequence[Execution], single: bool = False) -> None:
        """Return calls to the queue; `single`: they no longer share a bundle. The caller has the lock."""
        for execution in executions:
            self.release(execution)
            self._count(execution, False)
            state = state_of(execution)
            state.bundle = state.position = None
            state.done = False
            state.is_single = state.is_single or single
            self.open[execution] = None
        self.queue.put_back(executions)

    def fail(self, executions: Iterable[Execution], error: Exception) -> None:
        """End calls with an error of runmem itself; calls that depend on them fail too. The caller has the lock."""
        for execution in executions:
            state = state_of(execution)
            state.bundle = state.position = None
            self.end(execution, internal_error(execution, error))

    def ends_with_its_inputs(self, execution: Execution) -> bool:
        """End a call that depends on a failed call; return True if so. The caller has the lock."""
        errors = (state_of(needed).error for needed in state_of(execution).needs)
        error = next((error for error in errors if error is not None), None)
        if error is not None:
            self.end(execution, error)
        return error is not None

    def _count(self, execution: Execution, finished: bool) -> None:
        """Add an execution to the count of finished ones, or remove it."""
        state = state_of(execution)
        counted = state.done and state.error is None
        if execution.task_id:
            self.finished += finished - counted

    # --- ends of bundles ----------------------------------------------------------------------------------------------

    def poll(self, bundles: Sequence[Bundle]) -> None:
        """Record the results of the given bundles that have finished."""
        ended = [b for b in bundles if b.future is not None and not _is_under_way(b, b.future.status)]
        # Queried before the lock is taken: the answer arrives through the client's event loop.
        errors = {b: error_of(b) for b in ended if b.future is not None and b.future.status == "error"}
        with self.changed:
            for bundle in ended:
                error = errors.get(bundle)
                if bundle not in self.sent or (bundle in errors and error is None):
                    continue
                executions = self.recall(bundle)
                try:
                    self._note_end(bundle, executions, error)
                except Exception as mistake:
                    for execution in executions:
                        self.end(execution, internal_error(execution, mistake))
            if ended:
                self.changed.notify_all()

    def _note_end(self, bundle: Bundle, executions: list[Execution], error: BaseException | None) -> None:
        if error is None and bundle.future is not None and bundle.future.status == "finished":
            for execution in executions:
                self.end(execution, None)
            return
        is_own = bundle.key in (getattr(error, "key", None), getattr(error, "task", None))
        if isinstance(error, BundleFailed) and is_own:
            self._note_outcomes(executions, error.outcomes)
        elif error is None or isinstance(error, (BundleFailed, KilledWorker)) and not is_own:
            # Cancelled, or a bundle that it depends on was killed or failed; that bundle is handled separately.
            needed = [n for e in executions for n in state_of(e).needs]
            self.note_late_errors([n for n in needed if state_of(n).done and state_of(n).error is None])
            self.requeue(executions)
        elif isinstance(error, KilledWorker) and self._deaths is not None and self._deaths.decides:
            loss = Loss(error.last_worker.address, time.monotonic())
            self.requeue(executions)
            self.lost.update(dict.fromkeys(executions, loss))
        elif len(executions) > 1:
            self.requeue(executions, single=True)
        else:
            execution = executions[0]
            if isinstance(error, KilledWorker):
                error = TaskKilledError(execution.name, execution.task_id)
            self.fail_or_retry(execution, error)

    def _note_outcomes(self, executions: Sequence[Execution], outcomes: Sequence[Outcome]) -> None:
        """Note how the calls of a bundle have ended; those that need one that is tried again run after it."""
        again: set[int | None] = set()
        for execution, (good, value) in zip(executions, outcomes, strict=True):
            if good:
                self._store_separately(execution, value)
            elif root_task(failure := value.load()) in again:
                self.requeue([execution])
            elif self.fail_or_retry(execution, failure, has_changed_data=value.has_changed_data):
                again.add(execution.task_id)

    def fail_or_retry(
        self, execution: Execution, error: BaseException, is_final: bool = False, has_changed_data: bool = False
    ) -> bool:
        """End or requeue a failed call, according to the `on_failure` of its task; return True if it runs again.

        `is_final`: it does not; `has_changed_data`: see `final_error`. The caller has the lock.
        """
        state = state_of(execution)
        root = root_task(error)
        if root in self._cancelling:
            error = self._cancelling[root]
        policy = state.on_failure
        tries = MOST_TRIES if is_final else state.tries
        decided = final_error(execution, error, policy, tries, state.returns, has_changed_data)
        if decided is None:
            state.tries += 1
            self.requeue([execution], single=True)
        elif policy is not None and policy.management is Management.IGNORE and is_failure(execution, error):
            # Its process died, or the worker itself could not ignore the exception.
            self._store_separately(execution, outputs_of_ignored(execution, policy, state.returns, error))
        else:
            if type(decided) is TaskCancelledError and decided.has_run:
                self._cancelling[execution.task_id] = decided
            self.end(execution, decided)
        return decided is None

    def note_late_errors(self, executions: Sequence[Execution]) -> bool:
        """Note the errors of calls that failed when rerun for a lost result; return True if there are any."""
        found = [(execution, state_of(execution).bundle) for execution in executions]
        sent = [(e, b) for e, b in found if b is not None and b.future is not None and b.future.status == "error"]
        failed = {execution: error for execution, bundle in sent if (error := error_of(bundle)) is not None}
        with self.changed:
            for execution, error in failed.items():
                self.end(execution, error_of_call(execution, error))
        return bool(failed)

    def _store_separately(self, execution: Execution, result: object) -> None:
        """Send a result to the cluster on its own, because another call of its bundle failed."""
        state = state_of(execution)
        state.release_inputs()
        state.value = Wrapped(result) if type(result) is tuple else result
        state.has_value, state.bundle, state.position = True, None, None
        self.open[execution] = None
        self.queue.put_back([execution])


def _is_under_way(bundle: Bundle, status: str) -> bool:
    """Return True for a bundle that runs, or whose lost results Dask makes again: unless what it needs has failed."""
    if status != "lost":
        return status == "pending"
    needed = {state_of(n).bundle for e in bundle.executions for n in state_of(e).needs} - {None, bundle}
    return not any(b.future is not None and b.future.status == "error" for b in needed if b is not None)
