"""What happens on a worker: inputs are put in their places, the probes start, the user's function runs, they stop."""

from __future__ import annotations

import os
import pickle
import threading
import time
import types
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from typing import Any, NamedTuple

from runmem.errors import ArgumentError, ResultError, RunmemError, TaskCancelledError
from runmem.graph.call import FileUse, Slot
from runmem.graph.elements import root, value_at
from runmem.graph.file_attempt import FileAttempt
from runmem.graph.lazy_values import Items
from runmem.graph.task import TaskFunction
from runmem.memory.held import held
from runmem.serialization.definitions import program_definitions
from runmem.serialization.error_parts import field_of, text_of
from runmem.serialization.inputs import Arguments, Inputs, PackedArguments, unpack
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.packed import Buffer, Packed, Wrapped, holdings, pack_value
from runmem.serialization.program_copy import ProgramCopy, program_copies
from runmem.serialization.task_error import PackedError, RemoteError, add_note, set_root_task, traceback_text
from runmem.store.node_name import node_name
from runmem.worker.after_failure import is_ignored, keep_files, keeps_output, outputs_after_failure, report_ignored
from runmem.worker.call_recorder import stopped_runs, worker_runs
from runmem.worker.cancellation import cancelled_calls
from runmem.worker.log_levels import LogLevels
from runmem.worker.process_state import become

__all__ = ["BundleFailed", "PackedCall", "PackedTask", "keep_value", "load_task", "run_bundle", "run_call"]

_ONLY_MAIN_THREAD = (
    "task {} runs in a thread of the worker, and only the main thread of a process may do this: set signal handlers in "
    "the program, around wait_on, or in a process that the task starts"
)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class PackedTask(NamedTuple):
    """What calls in a bundle have in common: their task, and the program as they see it.

    Attributes
    ----------
    name : str
    reference : bytes or None
        Pickle of a task that a worker can import.
    number : int or None
        Number of one that it cannot, among the definitions of the program.
    outline : bytes or None
    constants : bytes
        The definitions that the calls need, see `runmem.serialization.snapshot.Snapshot`.
    returns : int
        Number of values that the function returns.
    copied : bool
        Whether the task gets copies also of large blocks of memory that it only reads.
    process : bytes
        See `runmem.worker.process_state.ProcessState`; empty: the task runs in the process as it is.
    log_levels : LogLevels or None
        How the program logged when it made the calls; None: it has set nothing up.
    limit_s : float or None
        Seconds that a call may take.
    """

    name: str
    reference: bytes | None
    number: int | None
    outline: bytes | None = None
    constants: bytes = b""
    returns: int = 1
    copied: bool = False
    process: bytes = b""
    log_levels: LogLevels | None = None
    limit_s: float | None = None


class PackedCall(NamedTuple):
    """One call in a bundle.

    Attributes
    ----------
    task : int
        Index of the packed task in the bundle.
    arguments : PackedArguments
    sources : list of (slot, position, output)
        Where each input comes from. `slot` is the index of a dependency of the Dask task, or -1 for this bundle;
        `position` the place of the producer in its bundle, or None where it was alone; `output` the number of the
        value among the producer's, or None where it makes one only.
    after : sequence of int
        Places in this bundle of calls that must have ended well, such as those that write a file which this one reads.
    """

    task_id: int
    task: int
    arguments: PackedArguments
    writes: tuple[Slot, ...] = ()
    files: tuple[FileUse, ...] = ()
    sources: Sequence[tuple[int, int | None, int | None]] = ()
    after: Sequence[int] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        length = len(self)
        while self[length - 1] is _DEFAULTS[length - 1]:  # what most calls have not got is not sent
            length -= 1
        return PackedCall, self[:length]


_DEFAULTS: tuple[Any, ...] = (object(), object(), object(), *PackedCall._field_defaults.values())


class BundleFailed(RunmemError):
    """Some calls of a bundle raised. Carries the outcome of each to the master: (True, value) or (False, PackedError).

    Also where the bundle is a single call: Dask would change the exception on its way.
    """

    def __init__(self, key: str, outcomes: list[tuple[bool, Any]]) -> None:
        super().__init__(key, outcomes)
        self.key = key
        self.outcomes = outcomes

    def __str__(self) -> str:
        return f"some calls of the bundle {self.key} raised"


def keep_value(value: Packed) -> Packed:
    """Return a large value of the program's; the Dask task that stands for it on the cluster."""
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
        raise RunmemError("the run has ended, and its workers begin no other call")
    calls: list[PackedCall] = pickle.loads(data.data if isinstance(data, Buffer) else data)
    run = worker_runs.get(run_id)
    if run is not None and run.measures:
        held().settle(holdings(dependencies))
    try:
        return _run_calls(run, run_id, key, calls, tasks, dependencies)
    finally:
        if run is not None:
            run.bundle_ended()


def _run_calls(
    run: Any,
    run_id: str,
    key: str,
    calls: Sequence[PackedCall],
    tasks: Sequence[PackedTask],
    dependencies: Sequence[Any],
) -> Any:
    outcomes: list[tuple[bool, Any]] = []
    cancelled = cancelled_calls[run_id]
    if len(calls) > 1:
        with suppress(BaseException):  # before the first window: importing is no call's. Its error comes again.
            for task in tasks:
                _prepare(task)
    for number, call in enumerate(calls, 1):
        if run is not None and run.stopped:
            raise RunmemError("the run has ended, and its workers begin no other call")
        if call.task_id in cancelled:
            error = TaskCancelledError(tasks[call.task].name, call.task_id)
            outcomes.append((False, PackedError.of(error)))
            continue
        outcomes.append(run_call(run, call, tasks[call.task], dependencies, outcomes, number == len(calls)))
    if not all(good for good, _ in outcomes):
        raise BundleFailed(key, outcomes) from None
    result = tuple(value for _, value in outcomes) if len(outcomes) > 1 else outcomes[0][1]
    return Wrapped(result) if type(result) is tuple else result


def _prepare(task: PackedTask) -> None:
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


def run_call(
    run: Any,
    call: PackedCall,
    packed_task: PackedTask,
    dependencies: Sequence[Any],
    earlier: Sequence[tuple[bool, Any]],
    last: bool = True,
    in_program: bool = False,
) -> tuple[bool, Any]:
    """Run a call; return whether it ended well, and its result or its `PackedError`.

    Parameters
    ----------
    earlier : sequence
        What became of the calls before it in the bundle.
    last : bool
        Whether it is the last call of the bundle.
    in_program : bool
        Whether this is the program's own process, and the call runs with the program's own definitions.
    """
    good, kept = _gathered(call, dependencies, earlier)
    if not good:
        return False, kept
    if run is not None and run.measures:
        held().call_with(holdings(kept))
    inputs = Inputs(kept, packed_task.copied, _written_inputs(call))
    failure: BaseException | None = None
    copy = None
    try:
        try:
            become(packed_task.process)
            if not in_program:
                copy = _copy_for(packed_task)
            with _time_limit(run, call, packed_task):
                return True, _result(run, call, packed_task, copy, inputs, last)
        except BaseException as error:
            if in_program and _ends_the_program(error):
                raise
            failure = error
        try:  # not while it is handled: an exception made here would keep its frames, and their memory
            return False, _told(failure, call, packed_task, inputs)
        finally:
            failure = None  # a circle through its traceback would keep the memory of the task
    finally:
        if not in_program:
            program_copies.end(packed_task.outline, copy)


def _time_limit(run: Any, call: PackedCall, task: PackedTask) -> AbstractContextManager[None]:
    """Return a block in which a call may take as long as its task says."""
    return nullcontext() if task.limit_s is None or run is None else run.limited(call.task_id, task.limit_s)


def _gathered(call: PackedCall, dependencies: Sequence[Any], earlier: Sequence[tuple[bool, Any]]) -> tuple[bool, Any]:
    """Return whether all that a call needs has ended well, and its inputs as the worker keeps them, or an error."""
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
    except BaseException as error:  # also SystemExit: a module that they need has called for it
        raise RunmemError(
            f"the functions and classes of the program that task {task.name} needs cannot be made on the worker, node "
            f"{node_name()} ({text_of(error)}). What they refer to must be importable there."
        ) from error


def _written_inputs(call: PackedCall) -> frozenset[int]:
    """Return the inputs that the task may write to, wholly or as part of an argument that it writes."""
    given = call.arguments
    written = {given.places[place] for place in map(root, call.writes) if place in given.places}
    if given.own is not None:
        written |= set(range(len(call.sources))) - {*given.places.values(), *given.values.values(), *given.buffers}
    return frozenset(written)


def _result(
    run: Any,
    call: PackedCall,
    packed_task: PackedTask,
    copy: ProgramCopy | None,
    inputs: Inputs,
    last: bool,
) -> Any:
    task = _declared(packed_task, copy).made_for(call.arguments.data)
    if run is not None:
        run.began(call.task_id, task.name, packed_task.log_levels)
    started = time.perf_counter()
    if run is None or not run.measures:
        outputs = _invoke(call, packed_task.returns, task, copy, inputs)
    else:
        outputs = run.measured(call.task_id, task, last, lambda: _invoke(call, packed_task.returns, task, copy, inputs))
    elapsed_s = time.perf_counter() - started
    what = f"the result of task {task.name} (call {call.task_id})"
    kept = tuple([pack_value(value, what) for value in outputs])
    result = None if not kept else kept[0] if len(kept) == 1 else kept
    if run is not None:
        run.ended(task.name, elapsed_s, result)
    return result


def _declared(packed_task: PackedTask, copy: ProgramCopy | None) -> TaskFunction:
    if packed_task.reference is not None:
        return load_task(packed_task.reference)
    assert packed_task.number is not None
    task: TaskFunction = (copy or program_definitions).object_of(packed_task.number)
    return task


def _ends_the_program(error: BaseException) -> bool:
    """Tell whether an error is no business of the task's: an interrupt, a signal, the end of a debugger."""
    kind = type(error)
    if issubclass(kind, (SystemExit, KeyboardInterrupt)):
        return kind is not SystemExit and threading.current_thread() is threading.main_thread()
    return kind.__name__ == "BdbQuit"


def _kept(
    source: tuple[int, int | None, int | None], dependencies: Sequence[Any], earlier: Sequence[tuple[bool, Any]]
) -> tuple[bool, Any]:
    """Return whether an input is there, and it as the worker keeps it, or the error of the call that it comes from."""
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


def _invoke(call: PackedCall, returns: int, task: Any, copy: ProgramCopy | None, inputs: Inputs) -> Sequence[Any]:
    """Return what a call returns, and then the new versions of what it writes."""
    files = FileAttempt(call.files) if call.files else None
    args, kwargs, values = _unpacked(call, task, inputs)
    if files is not None:
        files.give_paths(args, kwargs)
    if copy is not None:
        copy.set_changing(values)
    try:
        returned = _returned(task.run(*args, **kwargs), returns, task)
    except BaseException as error:
        if files is not None and files.was_overtaken():
            return _once_more(call, returns, task, copy, inputs)
        inputs.types = _argument_types(task, args, kwargs)
        if keeps_output(task, error):
            keep_files(task, args, kwargs)
            if files is not None:
                files.ended()
        if not is_ignored(task, error):
            raise
        report_ignored(task, call.task_id, error)
        return outputs_after_failure(task, returns, call.writes, args, kwargs)
    if files is not None:
        if files.was_overtaken():
            return _once_more(call, returns, task, copy, inputs)
        files.ended()
    written = [value_at(slot, args, kwargs, task.name) for slot in call.writes]
    return (*returned, *written) if written else returned


def _once_more(call: PackedCall, returns: int, task: Any, copy: ProgramCopy | None, inputs: Inputs) -> Sequence[Any]:
    """Run a call that runs again, and that may have read a file of which another version came into place meanwhile."""
    inputs.reset()
    return _invoke(call, returns, task, copy, inputs)


def _unpacked(call: PackedCall, task: Any, inputs: Inputs) -> Arguments:
    try:
        return unpack(call.arguments, inputs)
    except ResultError:
        raise
    except BaseException as error:  # also SystemExit: the class of a value in it has raised this
        if is_interrupt(error):
            raise
        raise ArgumentError(
            f"what task {task.name} (call {call.task_id}) is given cannot be made again on the worker, node "
            f"{node_name()} ({text_of(error)}). See that its classes can be unpickled: `copy.copy` of such an object "
            "in the program shows the same."
        ) from error


def _returned(value: Any, count: int, task: Any) -> Sequence[Any]:
    if count == 0:
        return ()
    return (value,) if count == 1 else _counted(value, count, task)


def _counted(value: Any, count: int, task: Any) -> Sequence[Any]:
    """Return the values of a task that declared more than one; TypeError if it returned another number."""
    if isinstance(value, (tuple, list, Items)) and len(value) == count:
        return tuple(value)
    got = f"{len(value)} values" if isinstance(value, (tuple, list, Items)) else f"one {type(value).__name__}"
    raise TypeError(f"{task.name} is declared to return {count} values and returned {got}: correct returns= in @task")


def _told(error: BaseException, call: PackedCall, task: PackedTask, inputs: Inputs) -> PackedError:
    """Pack an error, whatever its class does: what is raised here would end the worker, or leave the call open."""
    try:
        return _explained(error, call, task, inputs)
    except BaseException as refusal:  # of the code of the error's class, or of what it holds
        what = text_of(refusal)
    told = RemoteError(text_of(error))
    add_note(
        told,
        f"raised in task {task.name} (call {call.task_id}) on node {node_name()}, process {os.getpid()}; no more can "
        f"be told of it ({what})",
    )
    set_root_task(told, call.task_id)
    return PackedError.of(told)


def _explained(error: BaseException, call: PackedCall, task: PackedTask, inputs: Inputs) -> PackedError:
    """Pack an error so that it reaches the program as itself, with all that is known of where it happened."""
    shown = error
    if type(error) in (ArgumentError, RunmemError) and error.__cause__ is not None:
        shown = error.__cause__  # what the user's class or module said; the rest is runmem's
    trace: types.TracebackType | None = field_of(shown, "__traceback__")
    error = _no_order(error)
    if "only works in main thread" in text_of(error):
        add_note(error, _ONLY_MAIN_THREAD.format(task.name))
    add_note(
        error,
        f"raised in task {task.name} (call {call.task_id}) on node {node_name()}, process {os.getpid()}, "
        f"thread {threading.get_ident()}\n"
        f"arguments: {inputs.types}\n"
        f"traceback on the worker:\n{traceback_text(shown, _from_the_program(trace))}",
    )
    if not task.copied and _refuses_to_write(error):
        add_note(
            error,
            f"Large values that a task only reads are shared by all that read them, and cannot be written to. If "
            f"{task.name} changes a parameter on purpose, declare it INOUT; if not, let it change a copy of its own "
            "(`data = data.copy()`), or start the program with --inputs=copied, which gives every task its own.",
        )
    set_root_task(error, call.task_id)
    return PackedError.of(error)


def _no_order(error: BaseException) -> BaseException:
    """Return `error`, or what is told in place of one that is an order to the process: to this one, or the program."""
    if issubclass(type(error), (SystemExit, KeyboardInterrupt)):  # `isinstance` asks the exception, too
        return RemoteError(f"the task called for an exit: {text_of(error)}")
    return error


def _refuses_to_write(error: BaseException) -> bool:
    """Tell whether numpy or Python refused to write to memory that is there to be read."""
    text = text_of(error)
    return issubclass(type(error), (ValueError, TypeError, BufferError)) and ("read-only" in text or "readonly" in text)


def _from_the_program(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback from the first frame of the program on; the frames above it are runmem's."""
    below = trace
    while below is not None and below.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        below = below.tb_next
    return below or trace


def _argument_types(task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    places = [*enumerate(args), *kwargs.items()]
    return ", ".join(f"{task.signature.parameter_at(place)}: {type(value).__name__}" for place, value in places)
