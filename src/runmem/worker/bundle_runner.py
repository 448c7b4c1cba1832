"""Runs bundles of calls on a worker: unpacks the inputs, starts the probes, calls the user's function, stops them."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

from runmem.errors import ArgumentError, ResultError, ReturnedValuesError, RunmemError, TaskCancelledError
from runmem.graph.elements import root, value_at
from runmem.graph.file_attempt import FileAttempt
from runmem.graph.isolation import Isolation
from runmem.graph.lazy_values import Items
from runmem.graph.task import TaskFunction
from runmem.memory.stored_data import stored_data
from runmem.serialization.definitions import program_definitions
from runmem.serialization.error_parts import text_of
from runmem.serialization.inputs import Arguments, Inputs, argument_sizes, unpack
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.packed import Buffer, Packed, Wrapped, holdings, pack_value
from runmem.serialization.program_copy import ProgramCopy, program_copies
from runmem.serialization.task_error import PackedError
from runmem.store.node_name import node_name
from runmem.worker.after_failure import is_ignored, keep_files, keeps_output, outputs_after_failure, report_ignored
from runmem.worker.call_recorder import WorkerRun, stopped_runs, worker_runs
from runmem.worker.cancellation import cancelled_calls, interruptible, is_interrupted, running
from runmem.worker.isolation.isolated_calls import IsolatedCalls
from runmem.worker.log_levels import LogLevels
from runmem.worker.nesting import CallsOfTask, nestings
from runmem.worker.packed_call import BundleFailed, Outcome, PackedCall, PackedTask
from runmem.worker.packed_errors import argument_types, packed_error, remark_on
from runmem.worker.process_state import become
from runmem.worker.record_fields import set_record_fields

__all__ = [
    "BundleFailed", "PackedCall", "PackedTask", "isolated_calls", "keep_value", "load_task", "prepare_task",
    "run_bundle", "run_call",
]  # fmt: skip

Result = TypeVar("Result")

BeginCalls = Callable[[PackedCall, PackedTask, ProgramCopy | None], CallsOfTask]

isolated_calls: dict[str, IsolatedCalls] = {}
"""The runners of calls in fresh processes, by the id of the run."""


def keep_value(value: Packed) -> Packed:
    """Return a large value of the program unchanged: the Dask task that stores the value on the cluster."""
    return value


def run_bundle(run_id: str, key: str, tasks: Sequence[PackedTask], data: bytes | Buffer, *dependencies: Any) -> Any:
    """Run the calls of a bundle one after the other and return their results, as a worker keeps them.

    Returns
    -------
    object
        For a single call its result; else a `Wrapped` with the result of each. The result of a call with one output is
        the value itself, with more a `Wrapped` or tuple of them.

    Raises
    ------
    BundleFailed
        If some calls raised.
    """
    if run_id in stopped_runs:
        raise RunmemError("the run has ended; its workers start no more calls")
    calls: list[PackedCall] = pickle.loads(data.data if isinstance(data, Buffer) else data)
    run = worker_runs.get(run_id)
    if run is not None and run.measures:
        stored_data().wait_for_transfers(holdings(dependencies))
    try:
        with _turn(run, run_id, calls), _limit(run, calls), _noted(run) as note:
            return _run_calls(run, run_id, key, calls, tasks, dependencies, note)
    finally:
        if run is not None:
            run.bundle_ended()


def _turn(run: WorkerRun | None, run_id: str, calls: Sequence[PackedCall]) -> AbstractContextManager[None]:
    """Return the block in which a bundle runs: it begins when no call runs alone on the node, or is next to do so.

    A call of a task begins at once: the one that made it may run, and wait for it.
    """
    if run is None or run.node_turns is None or calls[0].depth:
        return nullcontext()
    cancelled = cancelled_calls[run_id]

    def is_wanted() -> bool:
        return not run.stopped and not all(call.task_id in cancelled for call in calls)

    return run.node_turns.turn(calls[0].alone, is_wanted)


def _limit(run: WorkerRun | None, calls: Sequence[PackedCall]) -> AbstractContextManager[None]:
    """Return the block in which the worker may use more memory, if its only call is to have that."""
    if run is None or not calls[0].larger:
        return nullcontext()
    from runmem.worker.larger_limit import larger_limit  # imports Dask, which nothing else here needs

    return larger_limit(run)


def _noted(run: WorkerRun | None) -> AbstractContextManager[Callable[[int], None]]:
    """Return the block in which a bundle runs; its value notes the call that runs, see `RunningCalls`."""
    if run is None or run.running_calls is None:
        return nullcontext(lambda task_id: None)
    return run.running_calls.bundle()


def _run_calls(
    run: WorkerRun | None, run_id: str, key: str, calls: Sequence[PackedCall], tasks: Sequence[PackedTask],
    dependencies: Sequence[Any], note: Callable[[int], None],
) -> Any:  # fmt: skip
    outcomes: list[Outcome] = []
    begin_calls = partial(nestings[run_id].begin, run) if run_id in nestings else None
    isolated, cancelled = isolated_calls.get(run_id), cancelled_calls[run_id]
    if len(calls) > 1:
        note(calls[0].task_id)
        # Import before the first measurement, so that no call is charged for it; an import error is raised again by the
        # call itself.
        with suppress(BaseException):
            for task in tasks:
                if not task.isolation.fresh_process:
                    _import_task(task)
    for number, call in enumerate(calls, 1):
        if run is not None and run.stopped:
            raise RunmemError("the run has ended; its workers start no more calls")
        task = tasks[call.task]
        note(call.task_id)
        with running(run_id, call.task_id):  # before `cancelled` is looked at: a call is cancelled either way
            if call.task_id in cancelled:
                outcomes.append((False, PackedError.of(TaskCancelledError(task.name, call.task_id))))
                continue
            run_it = partial(
                run_call,
                run,
                call,
                task,
                dependencies,
                outcomes,
                number == len(calls),
                isolated=isolated,
                begin_calls=begin_calls,
            )
            if task.isolation.attempts is None:
                outcomes.append(run_it())
            else:
                from runmem.worker.isolation.attempts import run_limited  # imports Dask, which nothing else here needs

                outcomes.append(run_limited(run_id, key, task.isolation.attempts, task.name, call.task_id, run_it))
    if not all(good for good, _ in outcomes):
        raise BundleFailed(key, outcomes) from None
    result = tuple(value for _, value in outcomes) if len(outcomes) > 1 else outcomes[0][1]
    return Wrapped(result) if type(result) is tuple else result


def prepare_task(task: PackedTask) -> None:
    """Load the modules and definitions of a task, in the process that is forked for its calls."""
    _import_task(task)
    copy = _copy_for(task)
    try:
        _load_declared(task, copy, prepared=True)
    finally:
        program_copies.end(task.outline, copy)


def _import_task(task: PackedTask) -> None:
    become(task.process)
    if task.outline is not None:
        program_copies.prepare(task.outline)
    if task.reference is not None:
        load_task(task.reference)


@lru_cache(maxsize=512)
def load_task(reference: bytes) -> TaskFunction:
    """Return a task that this process can import."""
    task: TaskFunction = pickle.loads(reference)
    return task


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
        self, task_id: int, task: TaskFunction, last: bool, body: Callable[[], Result],
        argument_bytes: dict[str, int] | None = None,
    ) -> Result:  # fmt: skip
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
                copy = _copy_for(packed_task)
            task = _load_declared(packed_task, copy, prepared=not is_isolated).made_for(call.arguments.data)
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
            program_copies.end(packed_task.outline, copy)


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


def _copy_for(task: PackedTask) -> ProgramCopy | None:
    try:
        return program_copies.begin(task.outline, task.constants)
    except BaseException as error:  # also SystemExit, which an imported module may raise
        raise RunmemError(
            f"the program's functions and classes that task {task.name} uses cannot be recreated on the worker, node "
            f"{node_name()} ({text_of(error)}). All modules that they use must be importable there."
        ) from error


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
    body: Callable[[], Sequence[Any]] = partial(_invoke, call, packed_task.returns, task, copy, inputs, begin_calls)
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
    run: CallRecorder | None, call: PackedCall, packed_task: PackedTask, task: TaskFunction, last: bool,
    body: Callable[[], Outcome], kept: Sequence[object],
) -> Outcome:  # fmt: skip
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
    run: CallRecorder | None, call: PackedCall, packed_task: PackedTask, task: TaskFunction, last: bool,
    body: Callable[[], Result], kept: Sequence[object],
) -> tuple[Result, float]:  # fmt: skip
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


def _load_declared(packed_task: PackedTask, copy: ProgramCopy | None, prepared: bool) -> TaskFunction:
    """Return the task; `prepared`: also prepare it for calls in this process."""
    if packed_task.reference is not None:
        task = load_task(packed_task.reference)
    else:
        assert packed_task.number is not None
        task = (copy or program_definitions).object_of(packed_task.number)
    if prepared:
        task.prepare()
    return task


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


def _invoke(
    call: PackedCall,
    returns: int,
    task: Any,
    copy: ProgramCopy | None,
    inputs: Inputs,
    begin_calls: Callable[[], CallsOfTask] | None,
) -> Sequence[Any]:
    """Run a call; return its results, then the new versions of the parameters that it writes."""
    files = FileAttempt(call.files) if call.files else None
    args, kwargs, values = _unpacked(call, task, inputs)
    if files is not None:
        files.give_paths(args, kwargs)
    if copy is not None:
        copy.set_changing(values)
    outputs = partial(_outputs, call, returns, task, args, kwargs)
    try:
        made = outputs() if begin_calls is None else begin_calls().complete(outputs)
    except BaseException as error:
        if is_interrupted():  # whatever the function has made of that
            _drop_cancelled(files)
            raise
        if files is not None and files.was_overtaken():
            return _once_more(call, returns, task, copy, inputs, begin_calls)
        inputs.types = argument_types(task, args, kwargs)
        if keeps_output(task, error):
            _keep_output(task, files, args, kwargs)
        if not is_ignored(task, error):
            inputs.remark = remark_on(error, task, args, kwargs)
            raise
        report_ignored(task, call.task_id, error)
        return outputs_after_failure(task, returns, call.writes, args, kwargs)
    if files is not None:
        if files.was_overtaken():
            return _once_more(call, returns, task, copy, inputs, begin_calls)
        files.ended()
    return made


def _outputs(call: PackedCall, returns: int, task: Any, args: list[object], kwargs: dict[str, object]) -> Sequence[Any]:
    """Run a task; return its results, then what it has written."""
    returned = _returned(_value(task, args, kwargs), returns, task)
    written = [value_at(slot, args, kwargs, task.name) for slot in call.writes]
    return (*returned, *written) if written else returned


def _drop_cancelled(files: FileAttempt | None) -> None:
    """Note that the call was cancelled while it ran, and drop what it has written."""
    set_record_fields(status="cancelled", exception=None, reason="the program cancelled it")
    if files is not None:
        files.drop()


def _keep_output(task: Any, files: FileAttempt | None, args: list[Any], kwargs: dict[str, Any]) -> None:
    keep_files(task, args, kwargs)
    if files is not None:
        files.ended()


def _value(task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run the function of a task, or what runs in its place, and return its value."""
    if task.launch is not None:  # it knows where it may be interrupted
        return task.run(*args, **kwargs)
    with interruptible():
        return task.run(*args, **kwargs)


def _once_more(
    call: PackedCall,
    returns: int,
    task: Any,
    copy: ProgramCopy | None,
    inputs: Inputs,
    begin_calls: Callable[[], CallsOfTask] | None,
) -> Sequence[Any]:
    """Rerun a repeated call, because a file that it read may have been replaced by another version during the run."""
    inputs.reset()
    return _invoke(call, returns, task, copy, inputs, begin_calls)


def _unpacked(call: PackedCall, task: Any, inputs: Inputs) -> Arguments:
    try:
        return unpack(call.arguments, inputs)
    except ResultError:
        raise
    except BaseException as error:  # also SystemExit, which a class may raise
        if is_interrupt(error):
            raise
        raise ArgumentError(
            f"the arguments of task {task.name} (call {call.task_id}) cannot be unpickled on the worker, node "
            f"{node_name()} ({text_of(error)}). Make sure that their classes can be unpickled; `copy.copy` of such an "
            "object in the program fails in the same way."
        ) from error


def _returned(value: Any, count: int, task: Any) -> Sequence[Any]:
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
