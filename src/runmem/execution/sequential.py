"""Runs each call at once, in the program's own process: to debug, and to know what the right result is.

Arguments, results and errors go the same way as to a worker and back, so that a task has the same copies of the same
values; only the program's functions and classes are the program's own.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runmem.collection.observer import Observers
from runmem.events import TaskEnded, TaskSubmitted
from runmem.execution.results import made_again
from runmem.execution.unseen_errors import UnseenErrors
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.current import current_program, set_current_program
from runmem.memory.profile_report import set_job_name, set_report_sink
from runmem.serialization.arguments import Resolve, pack
from runmem.serialization.definitions import program_definitions, run_program
from runmem.serialization.error_parts import set_field
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import Packed
from runmem.worker.bundle_runner import PackedCall, PackedTask, run_call
from runmem.worker.call_recorder import WorkerRun

__all__ = ["SequentialSubmitter"]


class _Done:
    """What became of an execution: its outputs as a worker would keep them, or its error."""

    __slots__ = ("outputs", "error")

    def __init__(self, outputs: Any, error: BaseException | None = None) -> None:
        self.outputs = outputs
        self.error = error


class SequentialSubmitter:
    """Implements `runmem.graph.call.Submitter` without a cluster.

    Parameters
    ----------
    join : callable
        Lets this process take part in the run; None: it could not.
    observers : Observers
    copied : bool, optional
        Whether tasks get copies also of large values that they only read; None: in programs that import pycompss.
    """

    broken = has_open_calls = False

    def __init__(self, join: Callable[[], WorkerRun | None], observers: Observers, copied: bool | None = None) -> None:
        run_program(True)
        self._join = join
        self._joined = False
        self._run: WorkerRun | None = None
        self._observers = observers
        self._copied = copied
        self._large = LargeValues(_keep)
        self._unseen = UnseenErrors()

    def submit(self, call: TaskCall, resolve: Resolve) -> None:
        """Run a call; see `Submitter`."""
        if not self._joined:
            self._run, self._joined = self._join(), True
        body = pack(call, resolve, self._large, None, _no_classes)
        execution = call.execution
        self._observers.task_submitted(TaskSubmitted(execution.task_id, execution.name))
        needed = [*(version.execution for version in body.inputs), *call.after]
        error = next((e.state.error for e in needed if e.state.error is not None), None)
        if error is None:
            kept = [_output(version) for version in body.inputs]
            number = program_definitions.number_of(call.task)
            reference = pickle.dumps(call.task) if number is None else None
            copied = self._copied or (self._copied is None and "pycompss" in sys.modules)
            task = PackedTask(call.task.name, reference, number, returns=call.returns, copied=copied)
            packed_call = PackedCall(
                execution.task_id, 0, body.data, call.writes,
                call.files,
                [(position, None, None) for position in range(len(kept))], body.places, body.values, body.buffers,
                body.own, body.changing,
            )  # fmt: skip
            with self._as_on_a_worker():
                good, outcome = run_call(self._run, packed_call, task, kept, [], in_program=True)
            error = None if good else outcome.load()
            outcome = _apart(outcome)
        execution.state = _Done(outcome if error is None else None, error)
        if error is not None:
            self._unseen.add(execution, error)
        status = "finished" if error is None else "failed"
        self._observers.task_ended(TaskEnded(execution.task_id, execution.name, status))

    @contextmanager
    def _as_on_a_worker(self) -> Iterator[None]:
        """Let calls of tasks inside the task be plain calls, and its reports those of a task."""
        program = current_program()
        set_current_program(None)
        if self._run is not None:
            set_report_sink(self._run.report)
        try:
            yield
        finally:
            set_report_sink(None)
            set_job_name("master")
            set_current_program(program)
            if self._run is not None:
                self._run.bundle_ended()

    def fetch(self, versions: Sequence[Version]) -> list[Any]:
        """Return values; see `Submitter`."""
        self.wait([version.execution for version in versions])
        return [made_again(version, version.execution.state.outputs, own=False) for version in versions]

    def wait(
        self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True
    ) -> None:
        """Raise the error of the first that failed, if asked to; see `Submitter`."""
        if executions is None:
            if self._unseen:
                raise self._unseen.take()
            return
        failed = [execution for execution in executions if execution.state.error is not None] if raises else []
        for execution in failed:
            self._unseen.saw(execution, execution.state.error)
        if failed:
            error: BaseException = failed[0].state.error
            set_field(error, "__traceback__", None)
            raise error

    def has_ended(self, execution: Execution) -> bool:
        """Return True: each call ends at once."""
        return True

    def open_calls(self) -> list[int]:
        """Return no call: each ends at once."""
        return []

    def cancel(self, executions: Sequence[Execution] | None = None) -> None:
        """Do nothing: no call is left."""

    def unseen_errors(self) -> list[BaseException]:
        """Return the errors of tasks that nobody has seen, for the end of the run."""
        return list(self._unseen)

    def close(self) -> None:
        """Leave the run."""
        if self._run is not None:
            self._run.close()


def _apart(outcome: Any) -> Any:
    """Return outputs that share no memory with the program's values, which a task can return here."""
    if type(outcome) is tuple:
        return tuple(map(_apart, outcome))
    return outcome.copied() if type(outcome) is Packed and outcome.buffers else outcome


def _keep(value: Packed, numbers: frozenset[int]) -> Version:
    execution = Execution(0, "argument", 1)
    execution.state = _Done(value)
    return Version(execution, 0)


def _output(version: Version) -> Any:
    outputs = version.execution.state.outputs
    return outputs[version.output] if version.execution.outputs > 1 else outputs


def _no_classes(version: Version) -> frozenset[int]:
    return frozenset()
