"""Runs one call: gathers its inputs, runs it here or in a fresh process, and packs its result or its error."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

from runmem.errors import TaskCancelledError
from runmem.graph.elements import root
from runmem.graph.isolation import Isolation
from runmem.graph.task import TaskFunction
from runmem.memory.stored_data import stored_data
from runmem.serialization.inputs import Inputs, argument_sizes
from runmem.serialization.packed import Wrapped, holdings, pack_value
from runmem.serialization.program_copy import ProgramCopy
from runmem.serialization.task_error import PackedError
from runmem.worker.cancellation import is_interrupted
from runmem.worker.function_call import FunctionCall
from runmem.worker.isolation.isolated_calls import IsolatedCalls
from runmem.worker.loaded_tasks import copy_for, declared_task, end_copy
from runmem.worker.log_levels import LogLevels
from runmem.worker.nesting import CallsOfTask
from runmem.worker.packed_call import Outcome, PackedCall, PackedTask
from runmem.worker.packed_errors import packed_error
from runmem.worker.process_state import become

__all__ = ["BeginCalls", "CallRecorder", "run_call"]

Result = TypeVar("Result")

BeginCalls = Callable[[PackedCall, PackedTask, ProgramCopy | None], CallsOfTask]


class CallRecorder(Protocol):
    """Measures and records calls in the process that runs them, see `WorkerRun`."""

    @property
    def measures(self) -> bool:
        """Whether memory is measured."""

    def limited(self, task_id: int, limit_s: float) -> AbstractContextManager[None]:
        """Return a context manager that limits a call to `limit_s` seconds."""

    def began(self, task_id: int, name: str, levels: LogLevels | None, parent_id: int = 0) -> None:
        """Note the task that this thread runs, and the call that has made this one."""

    def measured(
        self,
        task_id: int,
        task: TaskFunction,
        last: bool,
        body: Callable[[], Result],
        argument_bytes: dict[str, int] | None = None,
    ) -> Result:
        """Run `body`, and measure it."""

    def recording(self, task: TaskFunction, body: Callable[[], Result]) -> Callable[[], Result]:
        """Return what runs `body`, a call, and records its allocations if that is wanted."""

    def ended(self, name: str, elapsed_s: float, result: object) -> None:
        """Note a call that ended without an error."""


def run_call(
    run: CallRecorder | None,
    call: PackedCall,
    packed_task: PackedTask,
    dependencies: Sequence[Any],
    earlier: Sequence[Outcome],
    last: bool = True,
    in_program: bool = False,
    isolated: IsolatedCalls | None = None,
    begin_calls: BeginCalls | None = None,
) -> Outcome:
    """Run a call; return True and its result, or False and its `PackedError`.

    Parameters
    ----------
    earlier : sequence
        Outcomes of the calls before it in the bundle.
    last : bool
        Whether it is the last call of the bundle.
    in_program : bool
        Whether this is the program's own process, and the call runs with the program's own definitions.
    isolated : IsolatedCalls, optional
        Runs the call in a fresh process if its task asks for one. If None, each call runs in this process.
    begin_calls : callable, optional
        Returns what makes the calls of tasks that the call makes, see `Nesting`. If None, or in a fresh process, these
        are plain calls.
    """
    good, kept = _gathered(call, dependencies, earlier)
    if not good:
        return False, kept
    if run is not None and run.measures:
        stored_data().set_inputs(holdings(kept))
    inputs = Inputs(kept, packed_task.copied, _written_inputs(call), frozenset(call.last_read))
    is_isolated = isolated is not None and packed_task.isolation.fresh_process
    failure: BaseException | None = None
    copy = None
    try:
        try:
            become(packed_task.process)
            if not in_program:
                copy = copy_for(packed_task)
            task = declared_task(packed_task, copy, prepared=not is_isolated).made_for(call.arguments.data)
            if isolated is not None and is_isolated:
                body = partial(_run_isolated, isolated, call, packed_task, kept)
                return _result_apart(run, call, packed_task, task, last, body, kept)
            with _time_limit(run, call, packed_task):
                begin = None if begin_calls is None else partial(begin_calls, call, packed_task, copy)
                return True, _result(run, call, packed_task, task, copy, inputs, last, begin, kept)
        except BaseException as error:
            if in_program and _ends_the_program(error):
                raise
            failure = error
        if is_interrupted():
            failure = None
            cancelled = TaskCancelledError(packed_task.name, call.task_id, "was cancelled while it ran")
            return False, PackedError.of(cancelled)
        try:  # outside the except block: an exception created inside it would keep the frames, and their memory, alive
            shares_values = not packed_task.copied
            packed = packed_error(failure, packed_task.name, call.task_id, inputs.types, shares_values, inputs.remark)
            return False, packed._replace(has_changed_data=inputs.has_taken)
        finally:
            failure = None  # a reference cycle through its traceback would keep the task's memory alive
    finally:
        if not in_program:
            end_copy(packed_task, copy)


def _time_limit(run: CallRecorder | None, call: PackedCall, task: PackedTask) -> AbstractContextManager[None]:
    """Return a context manager that limits a call to the time limit of its task."""
    limit_s = task.isolation.limit_s
    return nullcontext() if limit_s is None or run is None else run.limited(call.task_id, limit_s)


def _gathered(call: PackedCall, dependencies: Sequence[Any], earlier: Sequence[Outcome]) -> Outcome:
    """Return True and the packed inputs of a call, or False and the error of the call that should have produced one."""
    kept = []
    for source in call.sources:
        good, value = _kept(source, dependencies, earlier)
        if not good:
            return False, value
        kept.append(value)
    for position in call.after:
        if not earlier[position][0]:
            return earlier[position]
    return True, kept


def _written_inputs(call: PackedCall) -> frozenset[int]:
    """Return the inputs that the task may write to, wholly or as part of an argument that it writes."""
    given = call.arguments
    written = {given.places[place] for place in map(root, call.writes) if place in given.places}
    if given.own is not None:
        written |= set(range(len(call.sources))) - {*given.places.values(), *given.values.values(), *given.buffers}
    return frozenset(written)


def _result(
    run: CallRecorder | None,
    call: PackedCall,
    packed_task: PackedTask,
    task: TaskFunction,
    copy: ProgramCopy | None,
    inputs: Inputs,
    last: bool,
    begin_calls: Callable[[], CallsOfTask] | None,
    kept: Sequence[object],
) -> Any:
    """Run a call in this process and return its packed result; `kept`: its inputs as they are stored."""
    body: Callable[[], Sequence[Any]] = FunctionCall(call, packed_task.returns, task, copy, inputs, begin_calls).run
    if run is not None:
        body = run.recording(task, body)
    try:
        outputs, elapsed_s = _run_recorded(run, call, packed_task, task, last, body, kept)
    finally:
        inputs.ended()
    what = f"the result of call {call.task_id} of {task.place}"
    kept = tuple([pack_value(value, what) for value in outputs])
    result = None if not kept else kept[0] if len(kept) == 1 else kept
    if run is not None:
        run.ended(task.name, elapsed_s, result)
    return result


def _result_apart(
    run: CallRecorder | None,
    call: PackedCall,
    packed_task: PackedTask,
    task: TaskFunction,
    last: bool,
    body: Callable[[], Outcome],
    kept: Sequence[object],
) -> Outcome:
    """Run a call by `body`, in a fresh process, and return its outcome."""
    (good, result), elapsed_s = _run_recorded(run, call, packed_task, task, last, body, kept)
    if good and run is not None:
        run.ended(task.name, elapsed_s, result)
    return good, result


def _run_isolated(isolated: IsolatedCalls, call: PackedCall, task: PackedTask, kept: Sequence[Any]) -> Outcome:
    in_process = task._replace(isolation=Isolation())
    alone = call._replace(sources=[(slot, None, None) for slot in range(len(kept))], after=())
    message = pickle.dumps((in_process, alone, kept), pickle.HIGHEST_PROTOCOL)
    loaded = pickle.dumps(in_process, pickle.HIGHEST_PROTOCOL)
    return isolated.run(task.name, call.task_id, loaded, message, task.isolation.limit_s)


def _run_recorded(
    run: CallRecorder | None,
    call: PackedCall,
    packed_task: PackedTask,
    task: TaskFunction,
    last: bool,
    body: Callable[[], Result],
    kept: Sequence[object],
) -> tuple[Result, float]:
    """Run and record `body` as the call of a task; return its result and duration in seconds."""
    if run is not None:
        run.began(call.task_id, task.name, packed_task.log_levels, call.parent)
    started = time.perf_counter()
    if run is None or not run.measures:
        result = body()
    else:
        sizes = argument_sizes(call.arguments, kept, task.signature.parameter_at)
        result = run.measured(call.task_id, task, last, body, sizes)
    return result, time.perf_counter() - started


def _ends_the_program(error: BaseException) -> bool:
    """Return True for an error that is not the task's: an interrupt, a signal, the end of a debugger."""
    kind = type(error)
    if issubclass(kind, (SystemExit, KeyboardInterrupt)):
        return kind is not SystemExit and threading.current_thread() is threading.main_thread()
    return kind.__name__ == "BdbQuit"


def _kept(
    source: tuple[int, int | None, int | None], dependencies: Sequence[Any], earlier: Sequence[Outcome]
) -> Outcome:
    """Return True and a packed input, or False and the error of the call that should have produced it."""
    slot, position, output = source
    if slot < 0:
        assert position is not None
        good, value = earlier[position]
        if not good:
            return False, value
    else:
        value = dependencies[slot] if position is None else dependencies[slot].values[position]
    if output is None:
        return True, value
    return True, (value.values if type(value) is Wrapped else value)[output]
