"""Takes back calls that were sent: cancelled ones, those at their time limit, and all at the end of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

import distributed

from runmem.dask_private import run_on_workers
from runmem.deadlines import within
from runmem.errors import TaskCancelledError
from runmem.execution.call_errors import timeout_error
from runmem.execution.call_state import Bundle, state_of
from runmem.execution.call_table import CallTable
from runmem.graph.call import Execution
from runmem.worker.cancellation import cancel_calls

__all__ = ["Cancellation", "Timeout"]

_CANCEL_S = 5.0


class Timeout(NamedTuple):
    """A call whose time limit has passed."""

    task_id: int
    limit_s: float
    stack: str | None
    where: str


class Cancellation:
    """Ends calls that are in the queue or were sent.

    Parameters
    ----------
    calls : CallTable
    run_id : str
    client : callable
        Returns the client; None until the cluster is connected.
    sending : Lock
        Taken while calls are sent, before the lock of `calls`.
    """

    def __init__(
        self, calls: CallTable, run_id: str, client: Callable[[], distributed.Client | None], sending: threading.Lock
    ) -> None:
        self._calls = calls
        self._run_id = run_id
        self._client = client
        self._sending = sending

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
        client = self._client()
        if not sent or client is None:
            return
        keys = [bundle.key for bundle in sent]
        answers = run_on_workers(client, cancel_calls, self._run_id, task_ids, keys, seconds=_CANCEL_S)
        if any(answer is None for answer in answers.values()):
            return  # that worker may have begun some calls; the others end with their bundles
        begun = {key for answer in answers.values() if isinstance(answer, list) for key in answer}
        with calls.changed:
            recalled = [bundle for bundle in sent if bundle in calls.sent and bundle.key not in begun]
            for bundle in recalled:
                self._recall(
                    bundle,
                    wanted.__contains__,
                    lambda execution: calls.end(execution, TaskCancelledError(execution.name, execution.task_id)),
                )
            calls.changed.notify_all()
        self._cancel_bundles(recalled)

    def cancel_failed_groups(self) -> None:
        """Cancel the calls of groups in which a task has raised `COMPSsException`."""
        with self._calls.changed:
            wanted = {e for e in self._calls.to_cancel if not state_of(e).done}
            self._calls.to_cancel.clear()
        if wanted:
            self.cancel(wanted)

    def end_at_limit(self, timeout: Timeout) -> None:
        """End a call at its time limit as one that failed; the other calls of its bundle run again."""
        calls = self._calls
        with calls.changed:
            found = [bundle for bundle in calls.sent if any(e.task_id == timeout.task_id for e in bundle.executions)]
            for bundle in found:
                self._recall(
                    bundle,
                    lambda execution: execution.task_id == timeout.task_id,
                    lambda execution: calls.fail_or_retry(execution, timeout_error(execution, *timeout[1:])),
                )
            calls.changed.notify_all()
        self._cancel_bundles(found)

    def abandon(self) -> None:
        """Cancel all Dask tasks that were sent, at the end of a run: their results are no longer wanted."""
        with self._calls.changed:
            sent = list(self._calls.sent)
        self._cancel_bundles(sent)

    def _recall(
        self, bundle: Bundle, is_meant: Callable[[Execution], bool], end: Callable[[Execution], object]
    ) -> None:
        """Take back a bundle; end the calls that are meant, and let the others run again. The caller has the lock."""
        others = []
        for execution in self._calls.recall(bundle):
            if is_meant(execution):
                end(execution)
            else:
                others.append(execution)
        self._calls.requeue(others)

    def _cancel_bundles(self, bundles: Iterable[Bundle]) -> None:
        futures = [bundle.future for bundle in bundles if bundle.future is not None]
        client = self._client()
        if futures and client is not None:
            within(_CANCEL_S, partial(client.cancel, futures, force=True))
