"""Runs each call at once, in the program's own process: to debug, and as the reference for results.

Arguments, results and errors are packed and unpacked as on their way to a worker and back, so that a task has the same
copies of the same values; only the program's functions and classes are the program's own.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from runmem.collection.observer import Observers
from runmem.errors import TaskCancelledError
from runmem.events import FIRST_NESTED, TaskEnded
from runmem.execution.calls_of_task import ProgramOfTask
from runmem.execution.failure_policy import final_error, gives_none, is_own_error, keeps_files, never_ran, stand_in
from runmem.execution.lazy_submitter import LazySubmitter
from runmem.execution.results import loaded_value
from runmem.execution.submitted import submitted
from runmem.execution.task_packing import gets_copies
from runmem.execution.unseen_errors import UnseenErrors
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.current import no_program
from runmem.graph.failure import policy_in_run, retries_by_default
from runmem.memory.profile_report import set_job_name, set_report_sink
from runmem.serialization.arguments import Resolve, pack
from runmem.serialization.definitions import program_definitions, run_program
from runmem.serialization.error_parts import set_field
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import Packed
from runmem.worker.call_recorder import WorkerRun
from runmem.worker.call_runner import run_call
from runmem.worker.packed_call import PackedCall, PackedTask

__all__ = ["NestedInSequence", "SequentialSubmitter"]


class _SequentialState:
    """State of an execution: its outputs, packed as on a worker, or its error."""

    __slots__ = ("outputs", "error", "keeps_files", "never_ran")

    done = True

    def __init__(
        self, outputs: object, error: BaseException | None = None, keeps_files: bool = False, never_ran: bool = False
    ) -> None:
        self.outputs = outputs
        self.error = error
        self.keeps_files = keeps_files
        self.never_ran = never_ran


def _state_of(execution: Execution) -> _SequentialState:
    state = execution.state
    assert type(state) is _SequentialState
    return state


class SequentialSubmitter:
    """Implements `runmem.graph.call.Submitter` without a cluster. Every call has ended when `submit` returns.

    Parameters
    ----------
    join : callable
        Makes this process take part in the run; returns None if that is not possible.
    observers : Observers
    copied : bool, optional
        See `RunServices`.
    nested : NestedInSequence, optional
        Makes the calls that tasks make; None: these are plain calls.
    is_inner : bool
        Whether it makes the calls of a task, which are measured as a part of that.
    """

    broken = has_open_calls = False

    def __init__(
        self,
        join: Callable[[], WorkerRun | None],
        observers: Observers,
        copied: bool | None = None,
        nested: NestedInSequence | None = None,
        is_inner: bool = False,
    ) -> None:
        run_program(True)
        self._nested = nested
        self._is_inner = is_inner
        self._join = join
        self._joined = False
        self._run: WorkerRun | None = None
        self._observers = observers
        self._copied = copied
        self._large = LargeValues(_store)
        self._unseen = UnseenErrors()
        self.finished = 0
        self._failed: list[int] = []

    def submit(self, call: TaskCall, resolve: Resolve) -> None:
        """Run a call; see `Submitter`."""
        if not self._joined:
            self._run, self._joined = self._join(), True
        payload = pack(call, resolve, self._large, None, _no_classes)
        execution = call.execution
        self._observers.task_submitted(submitted(call, payload.inputs))
        needed = [*(version.execution for version in payload.inputs), *call.after]
        error = next((error for e in needed if (error := _state_of(e).error) is not None), None)
        if execution.group is not None and execution.group.failed is not None:
            error = TaskCancelledError(execution.name, execution.task_id)
            error.gives_none = True
        outputs: object = None
        if error is None:
            stored = [_output(version) for version in payload.inputs]
            number = program_definitions.number_of(call.task)
            reference = pickle.dumps(call.task) if number is None else None
            copied = gets_copies(self._copied)
            task = PackedTask(call.task.name, reference, number, returns=call.returns, copied=copied)
            sources = [(position, None, None) for position in range(len(stored))]
            packed = PackedCall(execution.task_id, 0, payload.arguments, call.writes, call.files, sources)
            good, outcome = self._tried(call, packed, task, stored)
            outputs, error = (_unshared(outcome), None) if good else (None, outcome)
        execution.state = _SequentialState(outputs, error, keeps_files(execution, error), never_ran(execution, error))
        if error is not None:
            self._failed.append(execution.task_id)
        if error is not None and execution.group is not None and is_own_error(execution, error):
            execution.group.fail(execution, error)  # no other call of the group is under way
        if error is None:
            self.finished += 1
        elif type(error) is not TaskCancelledError:
            self._unseen.add(execution, error)
        status = "finished" if error is None else "failed"
        self._observers.task_ended(TaskEnded(execution.task_id, execution.name, status))

    def _tried(self, call: TaskCall, packed: PackedCall, task: PackedTask, stored: list[object]) -> tuple[bool, Any]:
        """Run a call, as often as its task's `on_failure` says; return True and its outputs, or False and its error."""
        tries = 1
        policy = policy_in_run(call.task.on_failure, retries_by_default())
        while True:
            with self._as_on_a_worker():
                begin_calls = None if self._nested is None else self._nested.begin
                good, outcome = run_call(self._run, packed, task, stored, [], in_program=True, begin_calls=begin_calls)
            if good:
                return True, outcome
            error = final_error(call.execution, outcome.load(), policy, tries, call.returns)
            if error is not None:
                return False, error
            tries += 1

    @contextmanager
    def _as_on_a_worker(self) -> Iterator[None]:
        """Make calls of tasks inside the task no calls of the program, and its reports those of a task."""
        with no_program():
            if self._is_inner:
                yield
                return
            if self._run is not None:
                set_report_sink(self._run.report, self._run.captures)
            try:
                yield
            finally:
                set_report_sink(None)
                set_job_name("master")
                if self._run is not None:
                    self._run.bundle_ended()

    def fetch(self, versions: Sequence[Version], deadline: float | None = None) -> list[Any]:
        """Return values; see `Submitter`."""
        self.wait([version.execution for version in versions])
        return [self._value(version) for version in versions]

    def _value(self, version: Version) -> object:
        state = _state_of(version.execution)
        return (
            loaded_value(version, state.outputs, own=False) if state.error is None else stand_in(version, state.error)
        )

    def wait(self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True) -> None:
        """Raise the error of the first that failed, if asked to; see `Submitter`."""
        if executions is None:
            if raises and self._unseen:
                raise self._unseen.take()
            return
        errors = [(e, _state_of(e).error) for e in executions] if raises else []
        failed = [(e, error) for e, error in errors if error is not None and not gives_none(error)]
        for execution, error in failed:
            self._unseen.saw(execution, error)
        if failed:
            error = failed[0][1]
            set_field(error, "__traceback__", None)
            raise error

    def cancel(self, executions: Iterable[Execution] | None = None) -> None:
        """Do nothing: every call has ended."""

    def has_ended(self, execution: Execution) -> bool:
        """Return True: every call has ended."""
        return True

    def open_calls(self) -> list[int]:
        """Return no call: every call has ended."""
        return []

    def failed_calls(self) -> list[int]:
        """Return the numbers of the calls that ended with an error."""
        return list(self._failed)

    def unseen_errors(self) -> list[BaseException]:
        """Return the errors of tasks that the program has not seen, for the end of the run."""
        return list(self._unseen)

    def close(self) -> None:
        """Leave the run."""
        if self._run is not None:
            self._run.close()

    def abandon(self) -> None:
        """Do nothing: every call has ended."""


class NestedInSequence:
    """Makes the calls that tasks make, each at once, as the program's are.

    Parameters
    ----------
    files : callable
        Returns the folder for versions of files.
    implicit_sync : bool
        See `Program`.
    """

    def __init__(self, files: Callable[[], str], implicit_sync: bool) -> None:
        self._files = files
        self._implicit_sync = implicit_sync
        self._numbers = count(FIRST_NESTED)

    def begin(self, call: PackedCall, task: PackedTask, copy: object) -> ProgramOfTask:
        """Return what makes the calls of one call of a task."""

        def submitter() -> SequentialSubmitter:
            return SequentialSubmitter(lambda: None, Observers(()), task.copied, self, is_inner=True)

        submit = LazySubmitter(submitter, lambda: None)
        return ProgramOfTask(submit, self._files(), self._numbers.__next__, self._implicit_sync)


def _unshared(outcome: Any) -> object:
    """Return outputs that share no memory with the program's values, which a task can return here."""
    if type(outcome) is tuple:
        return tuple(map(_unshared, outcome))
    return outcome.copied() if type(outcome) is Packed and outcome.buffers else outcome


def _store(value: Packed, numbers: frozenset[int]) -> Version:
    return Version(Execution(0, "argument", 1, _SequentialState(value)), 0)


def _output(version: Version) -> object:
    outputs: Any = _state_of(version.execution).outputs
    return outputs[version.output] if version.execution.outputs > 1 else outputs


def _no_classes(version: Version) -> frozenset[int]:
    return frozenset()
