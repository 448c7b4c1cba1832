"""Calls the function of a task with its unpacked arguments, and returns its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from runmem.errors import ArgumentError, ResultError, ReturnedValuesError
from runmem.graph.elements import value_at
from runmem.graph.file_attempt import FileAttempt
from runmem.graph.lazy_values import Items
from runmem.graph.task import TaskFunction
from runmem.serialization.error_parts import text_of
from runmem.serialization.inputs import Arguments, Inputs, unpack
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.program_copy import ProgramCopy
from runmem.store.node_name import node_name
from runmem.worker.after_failure import is_ignored, keep_files, keeps_output, outputs_after_failure, report_ignored
from runmem.worker.cancellation import interruptible, is_interrupted
from runmem.worker.nesting import CallsOfTask
from runmem.worker.packed_call import PackedCall
from runmem.worker.packed_errors import argument_types, remark_on
from runmem.worker.record_fields import set_record_fields

__all__ = ["FunctionCall"]


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of the function of a task in this process.

    Attributes
    ----------
    call : PackedCall
    returns : int
        Number of values that the function returns.
    task : TaskFunction
    copy : ProgramCopy or None
        The definitions of the program with which it runs; None: those of the process.
    inputs : Inputs
    begin_calls : callable or None
        Returns what makes the calls of tasks that the function makes; None: these are plain calls.
    """

    call: PackedCall
    returns: int
    task: TaskFunction
    copy: ProgramCopy | None
    inputs: Inputs
    begin_calls: Callable[[], CallsOfTask] | None

    def run(self) -> Sequence[Any]:
        """Run the call; return its results, then the new versions of the parameters that it writes."""
        call, task = self.call, self.task
        files = FileAttempt(call.files) if call.files else None
        args, kwargs, values = self._unpacked()
        if files is not None:
            files.give_paths(args, kwargs)
        if self.copy is not None:
            self.copy.set_changing(values)
        outputs = partial(self._outputs, args, kwargs)
        try:
            made = outputs() if self.begin_calls is None else self.begin_calls().complete(outputs)
        except BaseException as error:
            if is_interrupted():  # whatever the function has made of that
                _drop_cancelled(files)
                raise
            if files is not None and files.was_overtaken():
                return self._once_more()
            self.inputs.types = argument_types(task, args, kwargs)
            if keeps_output(task, error):
                _keep_output(task, files, args, kwargs)
            if not is_ignored(task, error):
                self.inputs.remark = remark_on(error, task, args, kwargs)
                raise
            report_ignored(task, call.task_id, error)
            return outputs_after_failure(task, self.returns, call.writes, args, kwargs)
        if files is not None:
            if files.was_overtaken():
                return self._once_more()
            files.ended()
        return made

    def _unpacked(self) -> Arguments:
        try:
            return unpack(self.call.arguments, self.inputs)
        except ResultError:
            raise
        except BaseException as error:  # also SystemExit, which a class may raise
            if is_interrupt(error):
                raise
            raise ArgumentError(
                f"the arguments of task {self.task.name} (call {self.call.task_id}) cannot be unpickled on the worker, "
                f"node {node_name()} ({text_of(error)}). Make sure that their classes can be unpickled; `copy.copy` of "
                "such an object in the program fails in the same way."
            ) from error

    def _outputs(self, args: list[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
        """Run the function; return its results, then what it has written."""
        returned = _returned(_value(self.task, args, kwargs), self.returns, self.task)
        written = [value_at(slot, args, kwargs, self.task.name) for slot in self.call.writes]
        return (*returned, *written) if written else returned

    def _once_more(self) -> Sequence[Any]:
        """Rerun a repeated call, because a file that it read may have been replaced by another version meanwhile."""
        self.inputs.reset()
        return self.run()


def _value(task: TaskFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run the function of a task, or what runs in its place, and return its value."""
    if task.launch is not None:  # it knows where it may be interrupted
        return task.run(*args, **kwargs)
    with interruptible():
        return task.run(*args, **kwargs)


def _returned(value: Any, count: int, task: TaskFunction) -> Sequence[Any]:
    """Return what the function returned as `count` values; ReturnedValuesError if it returned another number."""
    if count < 2:
        return (value,) if count else ()
    if isinstance(value, (tuple, list, Items)) and len(value) == count:
        return tuple(value)
    if isinstance(value, (tuple, list, Items)):
        got = f"{len(value)} value{'s' * (len(value) != 1)}"
    else:
        got = f"one {type(value).__name__}"
    raise ReturnedValuesError(
        f"{task.place} is declared to return {count} values, but returned {got}: correct returns= in @task"
    )


def _drop_cancelled(files: FileAttempt | None) -> None:
    """Note that the call was cancelled while it ran, and drop what it has written."""
    set_record_fields(status="cancelled", exception=None, reason="the program cancelled it")
    if files is not None:
        files.drop()


def _keep_output(task: TaskFunction, files: FileAttempt | None, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Keep the files that a call which raised has written."""
    keep_files(task, args, kwargs)
    if files is not None:
        files.ended()
