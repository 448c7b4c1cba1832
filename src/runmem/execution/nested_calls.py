"""Calls of tasks that tasks make: each running call has a program of its own, on the same Dask cluster.

::

    worker process
      thread of the pool:  task f ──> g(x): Program, DaskSubmitter ──> scheduler ──> any worker, this one too
                           wait_on: leaves the pool ─ ─ ─ ─ ─ ─ ─ ─> another thread runs g
                                    comes back when a thread is free <─ ─ ─ ─ ─ ─ ┘

No call waits for one that is not nested in it, and calls that wait hold no thread of the pool, so they cannot wait for
each other in a circle. Inner calls come before outer ones that have not begun, so that few calls wait at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import distributed

from runmem.collection.observer import Observers
from runmem.collection.process_deaths import Kill
from runmem.execution.bundle import Durations
from runmem.execution.calls_of_task import ProgramOfTask
from runmem.execution.lazy_submitter import LazySubmitter
from runmem.execution.nested_numbers import NestedNumbers
from runmem.execution.run_services import Caller, FollowedState, RunServices
from runmem.execution.submitter import DaskSubmitter
from runmem.graph.call import Execution, TaskCall, Version
from runmem.serialization.definitions import Definitions, NoDefinitions
from runmem.serialization.program_copy import ProgramCopy, program_copies
from runmem.serialization.snapshot import Snapshots
from runmem.serialization.task_definitions import TaskDefinitions, using
from runmem.worker.call_recorder import WorkerRun
from runmem.worker.cancellation import uninterruptible
from runmem.worker.nesting import CallsOfTask
from runmem.worker.packed_call import PackedCall, PackedTask
from runmem.worker.process_state import become, process_of_task
from runmem.worker.run_on_workers import stats_topic

__all__ = ["NestedCalls"]


_NO_DEFINITIONS = NoDefinitions()


class NestedCalls:
    """Implements `runmem.worker.nesting.Nesting`; travels to the workers of a run.

    Parameters
    ----------
    run_id : str
    files : str
        Folder for versions of files.
    implicit_sync : bool
        See `Program`.
    """

    def __init__(self, run_id: str, files: str, implicit_sync: bool) -> None:
        self.run_id = run_id
        self.files = files
        self.implicit_sync = implicit_sync
        self._connecting = threading.Lock()
        self._connected: tuple[distributed.Client, int] | None = None
        self.durations = Durations()
        self.numbers = NestedNumbers(run_id)

    def __reduce__(self) -> tuple[object, ...]:
        return NestedCalls, (self.run_id, self.files, self.implicit_sync)

    def begin(self, run: WorkerRun | None, call: PackedCall, task: PackedTask, copy: ProgramCopy | None) -> CallsOfTask:
        """Return what makes the calls of one call of a task, which runs in this thread."""
        return _CallsOfTask(self, run, call, task, copy)

    def connect(self) -> tuple[distributed.Client, int]:
        """Return the client of this worker, and the number of workers; called inside a task."""
        with self._connecting:
            if self._connected is None or self._connected[0].status != "running":
                client = distributed.get_client()
                topic = stats_topic(self.run_id)
                client.subscribe_topic(topic, self._take)
                for event in client.get_events(topic):  # the reports so far
                    self._take(event)
                self._connected = client, max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
            return self._connected

    def _take(self, event: tuple[float, dict[str, Any]]) -> None:
        """Note how long calls last, from a report of a worker; also called in the client's event loop."""
        message = event[1]
        if "seconds" in message:
            self.durations.observe(message["name"], message["calls"], message["seconds"], message["largest_bytes"])


class _CallsOfTask(ProgramOfTask):
    """The calls that one call of a task makes on a worker."""

    def __init__(
        self, nesting: NestedCalls, run: WorkerRun | None, call: PackedCall, task: PackedTask, copy: ProgramCopy | None
    ) -> None:
        submitter = _SubmitterOfTask(self._make_submitter)
        super().__init__(submitter, nesting.files, nesting.numbers.next, nesting.implicit_sync)
        self._nesting = nesting
        self._call = call
        self._task = task
        self._copy = copy
        self._run = run
        self._thread = threading.get_ident()
        self._process: FollowedState | None = None
        self._snapshots: Snapshots | None = None

    def end(self) -> None:
        """Send no more calls, and remove what was made for them."""
        super().end()
        if self._snapshots is not None:
            self._snapshots.forget_changing()

    def _make_submitter(self) -> tuple[DaskSubmitter, TaskDefinitions]:
        self._snapshots = _snapshots_of(self._copy)
        self._process = process_of_task(self._task.process)
        connected = self._nesting.connect()
        measures = self._run is not None and self._run.measures
        known = Kill("its record in the run directory has its last memory reading") if measures else None
        services = RunServices(
            run_id=self._nesting.run_id,
            connect=lambda: connected,
            observers=Observers(()),
            kill_of=lambda task_id: known,
            copied=self._task.copied,
            process=self._process,
            caller=Caller(self._call.task_id, self._call.depth, self._task, self._snapshots),
            durations=self._nesting.durations,
            away=self._away,
        )
        definitions = self._snapshots.definitions
        assert isinstance(definitions, TaskDefinitions)
        return DaskSubmitter(services), definitions

    @contextmanager
    def _away(self) -> Iterator[None]:
        """Let the worker run other calls while this one waits."""
        if threading.get_ident() != self._thread:
            yield
            return
        with uninterruptible():
            state = self._process.packed() if self._process is not None else b""
            if self._run is not None:
                self._run.pause()
            distributed.secede()
        try:
            yield
        finally:
            with uninterruptible():  # the pool would lose a thread if the call were cancelled while it comes back
                distributed.rejoin()
                become(state)
                if self._copy is not None:
                    program_copies.use_again(self._copy)
                if self._run is not None:
                    self._run.go_on()


class _SubmitterOfTask(LazySubmitter):
    """Makes and fetches with the definitions of the task's process."""

    def __init__(self, make: Callable[[], tuple[DaskSubmitter, TaskDefinitions]]) -> None:
        self._definitions: Definitions = _NO_DEFINITIONS

        def made() -> DaskSubmitter:
            submitter, self._definitions = make()
            return submitter

        super().__init__(made, lambda: None)

    def submit(self, call: TaskCall, resolve: Callable[[object], Version | None] | None) -> None:
        """Accept a call; see `Submitter`."""
        submitter = self._made()
        with using(self._definitions):
            submitter.submit(call, resolve)

    def fetch(self, versions: Sequence[Version], deadline: float | None = None) -> list[Any]:
        """Wait for values and return them; see `Submitter`."""
        with using(self._definitions):
            return super().fetch(versions, deadline)

    def wait(self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True) -> None:
        """Wait until executions have ended; see `Submitter`."""
        with using(self._definitions):
            super().wait(executions, deadline, raises)

    def cancel(self, executions: Iterable[Execution] | None = None) -> None:
        """Cancel calls that have not ended; see `Submitter`."""
        with using(self._definitions):
            super().cancel(executions)


def _snapshots_of(copy: ProgramCopy | None) -> Snapshots:
    """Return the snapshots for the calls that a task makes; they are kept with its copy of the program."""
    if copy is None:
        return Snapshots(TaskDefinitions(_NO_DEFINITIONS))
    snapshots: Snapshots | None = copy.snapshots
    if snapshots is None:
        snapshots = copy.snapshots = Snapshots(TaskDefinitions(copy))
    return snapshots
