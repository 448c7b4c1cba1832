"""Submits the calls of a program to Dask, and fetches their results and errors. Used by the program's threads.

::

    program's thread, runmem-awaiting          one lock: CallTable.changed         runmem-submitter (sender.py)
      submit: pack, add to the queue  ──────>  queue, open, sent          ──────>    sends, polls
      wait, fetch  <── notified ─────────────  ends of calls              <──────
      fetch: gather, under `_fetching`, so that two threads do not fetch the same bundle

Calls that share a Dask task (see `bundle`) keep their own results, errors and blame: when a bundle is killed its calls
run again one by one, and when one of its calls raises, the results of the others are kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from typing import Any

import distributed

import runmem.serialization.dask_serialization  # noqa: F401  # registers serializers with Dask
from runmem.deadlines import within
from runmem.errors import ArgumentError, TaskCancelledError, TaskKilledError, TaskTimeoutError
from runmem.execution.call_errors import explain_kill, unfetchable
from runmem.execution.call_state import CallState, Implementation, state_of
from runmem.execution.call_table import CallTable
from runmem.execution.failure_policy import gives_none, stand_in
from runmem.execution.placement import Demand, demand_of
from runmem.execution.results import FetchedResults, loaded_value
from runmem.execution.run_services import RunServices
from runmem.execution.sender import Sender
from runmem.execution.submitted import submitted
from runmem.execution.task_packing import TaskPacking
from runmem.graph.call import Execution, TaskCall, Version, inherit_origin
from runmem.graph.failure import Management, policy_in_run
from runmem.graph.implementations import implementations_of
from runmem.serialization.arguments import Payload, Resolve, pack
from runmem.serialization.definitions import program_definitions, run_program
from runmem.serialization.error_parts import set_field
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import Packed
from runmem.serialization.snapshot import Snapshot, Snapshots
from runmem.units import format_bytes

__all__ = ["DaskSubmitter"]

_ARGUMENT = "argument"
_ANYWHERE = Demand(1, 0)
_CANCEL_S = 10.0  # longest wait for the ends of cancelled calls that run


class DaskSubmitter:
    """Implements `runmem.graph.call.Submitter` on a Dask cluster.

    Parameters
    ----------
    services : RunServices

    Attributes
    ----------
    calls : CallTable
    sender : Sender
    """

    def __init__(self, services: RunServices) -> None:
        caller = services.caller
        if caller is None:
            run_program(True)
        self.calls = CallTable(services)
        self.sender = Sender(self.calls, services)
        self._kill_of = services.kill_of
        self._snapshots = Snapshots(program_definitions) if caller is None else caller.snapshots
        self._definitions = self._snapshots.definitions
        self._tasks = TaskPacking(services, self._definitions)
        self._copied = services.copied
        self._on_memory = services.on_memory
        self._is_nested = caller is not None
        self._away = services.away
        self._large = LargeValues(self._send_value)
        self._results = FetchedResults()
        self._fetching = threading.Lock()
        self._largest_worker = services.largest_worker
        self._shares_memory = services.memory is not None
        self._possible_bytes = 0  # of memory, which a worker is known to have
        observers = services.observers
        self._report_submitted = observers.task_submitted if observers.hears("task_submitted") else None

    def submit(self, call: TaskCall, resolve: Resolve) -> None:
        """Accept a call; see `Submitter`."""
        self._check()
        self._check_memory(call)
        if not self._is_nested:  # else it would keep its worker from running them
            self.calls.wait_for_room()
        payload = pack(call, resolve, self._large, self._snapshots, _classes_of)
        if payload.inputs or call.after:
            inherit_origin(call.execution, [*(version.execution for version in payload.inputs), *call.after])
        last_read = self._last_read(call, payload)
        for version in payload.inputs:
            version.execution.is_read = True
            error = state_of(version.execution).error
            if type(error) is TaskCancelledError and error.gives_none and not error.has_run:
                _warn_of_cancelled(call, version.execution)
        snapshot = payload.snapshot
        demand = demand_of(call)
        others = self._implementations(call, resolve) if demand is not None else []
        classes = snapshot.travelling if snapshot is not None else frozenset()
        self.calls.has_constraints = self.calls.has_constraints or demand is not None
        task = self._tasks.packed(call, snapshot)
        call.execution.state = CallState(
            task=task,
            payload=payload,
            after=call.after,
            writes=call.writes,
            files=call.files,
            last_read=last_read,
            classes=classes.union(*(each.travelling for _, each in others if each is not None)) if others else classes,
            is_single=call.isolation.attempts is not None,
            definitions=(snapshot, others) if others else snapshot,
            demand=demand,
            place=call.task.place if demand is not None else "",
            implementations=tuple(other for other, _ in others),
            on_failure=policy_in_run(call.task.on_failure, task.retries),
            returns=call.returns,
            on_memory=call.task.on_memory or self._on_memory,
            attempts=call.isolation.attempts,
        )
        self._add(call.execution)
        if call.execution.group is not None and call.execution.group.failed is not None:
            self.calls.to_cancel.add(call.execution)
        if self._report_submitted is not None:
            self._report_submitted(submitted(call, payload.inputs))

    def _check_memory(self, call: TaskCall) -> None:
        """Raise ArgumentError for a call whose task declares more memory than any worker may use."""
        needed = call.task.memory_bytes
        if needed is None or needed <= self._possible_bytes:
            return
        largest = self._largest_worker()
        if largest is not None and needed > largest[0]:
            remedies = ["ask for less", "start fewer workers with a larger --worker_memory"]
            if not self._shares_memory:
                remedies.insert(1, "let each worker use all memory of its node with --memory_aware")
            raise ArgumentError(
                f"{call.task.place}: memory={format_bytes(needed)} in @task is more than the largest worker, "
                f"{largest[1]}, may use, {format_bytes(largest[0])}: {', or '.join(remedies)}."
            )
        self._possible_bytes = needed

    def _implementations(self, call: TaskCall, resolve: Resolve) -> list[tuple[Implementation, Snapshot | None]]:
        """Return the other tasks that a call may run, and the snapshots with which they travel."""
        found = []
        for task in implementations_of(call.task):
            other = replace(call, task=task)
            snapshot = pack(other, resolve, self._large, self._snapshots, _classes_of).snapshot
            found.append((Implementation(self._tasks.packed(other, snapshot), demand_of(other) or _ANYWHERE), snapshot))
        return found

    def _last_read(self, call: TaskCall, payload: Payload) -> tuple[int, ...]:
        """Return the inputs that this call alone reads, now or later, and need not read twice.

        No call may have read the version before, even if it has ended: should its result be lost, it reads it again.
        Nor may other outputs of the execution be readable, because Dask stores and sends all of them together.
        """
        policy = call.task.on_failure
        runs_again = policy is not None and policy.management is Management.RETRY or bool(call.files)
        alone = call.replaces | payload.unshared
        if not alone or runs_again or call.isolation.fresh_process or self._copied or self._is_nested:
            return ()
        return tuple(
            index
            for index, version in enumerate(payload.inputs)
            if version in alone and not version.execution.is_read and version.execution.outputs == 1
        )

    def _send_value(self, value: Packed, numbers: frozenset[int]) -> Version:
        execution = Execution(0, _ARGUMENT, 1)
        objects = tuple(self._definitions.object_of(number) for number in numbers)
        execution.state = CallState(value=value, has_value=True, classes=numbers, definitions=objects)
        self._add(execution)
        return Version(execution, 0)

    def _add(self, execution: Execution) -> None:
        if self.calls.add(execution):
            self.sender.start()

    def fetch(self, versions: Sequence[Version], deadline: float | None = None) -> list[Any]:
        """Wait for values and return them; see `Submitter`."""
        executions = list(dict.fromkeys(version.execution for version in versions))
        values = None
        with self._away():
            while values is None:
                self._wait_for(executions, deadline)
                self._raise_first(executions)
                cancelled = {e: error for e in executions if (error := state_of(e).error) is not None}
                values = self._fetched([e for e in executions if e not in cancelled], deadline)
        return [
            stand_in(version, cancelled[version.execution])
            if version.execution in cancelled
            # A worker's client gives the very objects that the worker stores.
            else loaded_value(version, values[version.execution], own=not self._is_nested)
            for version in versions
        ]

    def _fetched(self, executions: Sequence[Execution], deadline: float | None) -> dict[Execution, object] | None:
        """Return packed results; None if a call that had ended well has run again, for a lost result, and failed."""
        try:
            return self._gathered(executions, deadline)
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline is not None and time.monotonic() >= deadline:
                raise
            if not self.calls.note_late_errors(executions):
                raise unfetchable(executions, error) from None
            return None

    def _gathered(self, executions: Sequence[Execution], deadline: float | None) -> dict[Execution, object]:
        client = self.sender.client
        if client is None:
            return {}

        def fetched() -> dict[Execution, object]:
            with self._fetching:
                return self._results.of(executions, client)

        return fetched() if deadline is None else within(max(0.0, deadline - time.monotonic()), fetched)

    def wait(self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True) -> None:
        """Wait until executions have ended; see `Submitter`."""
        if executions is not None:
            with self._away():
                self._wait_for(executions, deadline)
            if raises:
                self._raise_first(executions)
            return
        while self.calls.open:
            with self.calls.changed:
                waiting = list(self.calls.open)
            with self._away():
                self._wait_for(waiting, deadline)
        if raises and self.calls.unseen:
            raise self._explained(self.calls.unseen.take())

    def cancel(self, executions: Iterable[Execution] | None = None) -> None:
        """Cancel calls that have not ended; see `Submitter`."""
        with self.calls.changed:
            chosen = list(self.calls.open if executions is None else executions)
            wanted = {execution for execution in chosen if execution.task_id and not state_of(execution).done}
        if wanted:
            self.sender.cancel(wanted)
            if executions is not None:  # what the program calls next is not to need what they would have written
                with suppress(TimeoutError):
                    self._wait_for(list(wanted), time.monotonic() + _CANCEL_S)

    def has_ended(self, execution: Execution) -> bool:
        """Return True if an execution has ended, or cannot end any more; see `Submitter`."""
        return self.broken or state_of(execution).done

    @property
    def has_open_calls(self) -> bool:
        """Whether a call is known not to have ended."""
        return bool(self.calls.open)

    def open_calls(self) -> list[int]:
        """Return the numbers of the calls that are not known to have ended."""
        with self.calls.changed:
            return [execution.task_id for execution in self.calls.open if execution.task_id]

    @property
    def finished(self) -> int:
        """Number of calls that ended without an error."""
        return self.calls.finished

    def failed_calls(self) -> list[int]:
        """Return the numbers of the calls that ended with an error."""
        with self.calls.changed:
            return list(self.calls.failed)

    @property
    def broken(self) -> bool:
        """Whether the cluster could not be reached, or the connection is lost."""
        return self.sender.broken is not None

    def unseen_errors(self) -> list[BaseException]:
        """Return the errors of tasks that the program has not seen, for the end of the run."""
        return [self._explained(error) for error in self.calls.unseen]

    def close(self) -> None:
        """Stop sending; calls that were not sent are dropped."""
        self.sender.close()
        self._large.clear()

    def abandon(self) -> None:
        """Cancel what was sent, at the end of the run."""
        self.sender.abandon()

    def _check(self) -> None:
        if self.sender.broken is not None:
            raise self.sender.broken

    def _raise_first(self, executions: Sequence[Execution]) -> None:
        errors = [(e, state_of(e).error) for e in executions]
        failed = [(e, error) for e, error in errors if error is not None and not gives_none(error)]
        for execution, error in failed:  # the program, which catches the first, has asked for all of them
            self.calls.unseen.saw(execution, error)
        if failed:
            error = failed[0][1]
            # The note of the error has the worker's frames as text; each raise would add them again.
            set_field(error, "__traceback__", None)
            raise self._explained(error)

    def _wait_for(self, executions: Sequence[Execution], deadline: float | None) -> None:
        """Return when all have ended."""
        calls = self.calls
        while True:
            self._check()
            with calls.changed:
                waiting = [execution for execution in executions if not state_of(execution).done]
                if not waiting:
                    return
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    first = waiting[0]
                    raise TimeoutError(
                        f"{len(waiting)} of {len(executions)} calls unfinished at the deadline, first {first.name} "
                        f"(call {first.task_id})"
                    )
                sent = {b.key: b for e in waiting if (b := state_of(e).bundle) is not None and b.future is not None}
                client = self.sender.client
                if client is None or not sent:
                    self.sender.is_urgent = True
                    calls.changed.notify_all()
                    poll_s = 0.005 if client is not None else 0.05
                    calls.changed.wait(poll_s if left_s is None else min(poll_s, left_s))
                    continue
            # Cancelled: a call reached its time limit or was cancelled, and what needed it is dealt with below.
            with client.as_current(), suppress(CancelledError, TimeoutError):
                distributed.wait([bundle.future for bundle in sent.values()], timeout=left_s)
            calls.poll(list(sent.values()))

    def _explained(self, error: BaseException) -> BaseException:
        """Complete the error of a killed task with its measurements; not under the lock, because it may wait."""
        if type(error) is TaskKilledError and error.task_id is not None:
            explain_kill(error, self._kill_of(error.task_id) or self.calls.kills.get(error.task_id))
        elif type(error) is TaskTimeoutError:
            self._kill_of(error.task_id)  # waits a little for its record
        return error


def _warn_of_cancelled(call: TaskCall, needed: Execution) -> None:
    call.task.warn(
        f"{call.task.name} (call {call.execution.task_id}) is cancelled: it needs what {needed.name} (call "
        f"{needed.task_id}) makes, which was cancelled. Waiting for it gives None."
    )


def _classes_of(version: Version) -> frozenset[int]:
    return state_of(version.execution).classes
