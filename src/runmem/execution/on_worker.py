"""What happens on a worker: inputs are put in their places, the probes start, the user's function runs, they stop."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import time
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, NamedTuple, NoReturn

from runmem.errors import RunmemError
from runmem.execution.worker_run import worker_runs
from runmem.serialization.arguments import Buffer, Literal, private_copy, unpack
from runmem.serialization.carried import carried, uncarried
from runmem.serialization.error_parts import field_of, text_of
from runmem.serialization.functions import load_function
from runmem.serialization.task_error import PackedError, RemoteError, add_note, set_root_task, traceback_text
from runmem.store.node_name import node_name

__all__ = ["PackedCall", "BundleFailed", "run_bundle", "load_literal"]

_ONLY_MAIN_THREAD = (
    "task {} runs in a thread of the worker, and only the main thread of a process may do this: set signal handlers in "
    "the program, around wait_on, or in a process that the task starts"
)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class PackedCall(NamedTuple):
    """One call in a bundle.

    Attributes
    ----------
    function : int
        Index of the packed function in the bundle.
    sources : list of (slot, position, output)
        Where each input comes from. `slot` is the index of a dependency of the Dask task, or -1 for this bundle;
        `position` the place of the producer in its bundle, or None where it was alone; `output` the number of the
        value among the producer's, or None where it makes one only.
    """

    task_id: int
    function: int
    data: bytes
    places: dict[int | str, int]
    sources: list[tuple[int, int | None, int | None]]
    returns: int
    writes: tuple[int | str, ...]
    files: tuple[tuple[str, str | None], ...]


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


def load_literal(literal: Literal) -> Any:
    """Return a large argument; the Dask task that stands for it on the cluster."""
    return carried(literal.load())


def run_bundle(run_id: str, key: str, functions: Sequence[bytes], packed: bytes | Buffer, *dependencies: Any) -> Any:
    """Run the calls of a bundle one after the other and return their results.

    Returns
    -------
    object
        For a single call its result; else a tuple with the result of each. The result of a call with one output is the
        value itself, with more a tuple.

    Raises
    ------
    BundleFailed
        If some calls raised.
    """
    calls: list[PackedCall] = pickle.loads(packed.data if isinstance(packed, Buffer) else packed)
    run = worker_runs.get(run_id)
    try:
        return carried(_run_calls(run, key, calls, functions, [uncarried(value) for value in dependencies]))
    finally:
        if run is not None:
            run.bundle_ended()


def _run_calls(
    run: Any, key: str, calls: Sequence[PackedCall], functions: Sequence[bytes], dependencies: Sequence[Any]
) -> Any:
    outcomes: list[tuple[bool, Any]] = []
    if len(calls) > 1:
        with suppress(Exception):  # before the first window: what importing takes is no call's. Its error comes again.
            for function in functions:
                load_function(function)
    for call, following in zip_longest(calls, calls[1:]):
        try:
            outcomes.append((True, _run_call(run, call, following, functions, dependencies, outcomes)))
        except BaseException as error:
            outcomes.append((False, _no_order(error)))
    if all(good for good, _ in outcomes):
        return tuple(value for _, value in outcomes) if len(outcomes) > 1 else outcomes[0][1]
    raise BundleFailed(key, [(good, value if good else PackedError.of(value)) for good, value in outcomes]) from None


def _run_call(
    run: Any,
    call: PackedCall,
    following: PackedCall | None,
    functions: Sequence[bytes],
    dependencies: Sequence[Any],
    earlier: Sequence[tuple[bool, Any]],
) -> Any:
    declared, function = load_function(functions[call.function])
    task = declared.made_for(call.data)
    inputs = [_input(source, dependencies, earlier) for source in call.sources]  # raises what an earlier call raised
    if run is not None:
        run.began(call.task_id)
    started = time.perf_counter()
    failure: BaseException | None = None
    try:
        if run is None or not run.measures:
            result = _invoke(call, task, function, inputs)
        else:
            announced = _same_task(call, following) if task is declared else None  # else it is made for this call
            result = run.measured(
                call.task_id, task, following is None, lambda: _invoke(call, task, function, inputs), announced
            )
    except BaseException as error:
        failure = error
    if failure is not None:  # not while it is handled: an exception made here would keep its frames, and their memory
        try:
            _raise(failure, call, task, inputs)
        finally:
            failure = None  # a circle through its traceback would keep the memory of the task
    if run is not None:
        run.ended(task.name, time.perf_counter() - started, result)
    return result


def _same_task(call: PackedCall, following: PackedCall | None) -> int | None:
    """Return the number of the call that follows in the bundle if it is of the same task."""
    return following.task_id if following is not None and following.function == call.function else None


def _input(source: tuple[int, int | None, int | None], dependencies: Sequence[Any], earlier: Sequence[Any]) -> Any:
    slot, position, output = source
    if slot < 0:
        assert position is not None
        good, value = earlier[position]
        if not good:
            raise value
    else:
        value = dependencies[slot] if position is None else dependencies[slot][position]
    return value if output is None else value[output]


def _invoke(call: PackedCall, task: Any, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
    for path, copy_from in call.files:
        _prepare_file(path, copy_from)
    args, kwargs = unpack(call.data, _own_inputs(call, inputs), call.places)
    written = [kwargs[place] if isinstance(place, str) else args[place] for place in call.writes]
    value = function(*args, **kwargs)
    returned = _returned(value, call.returns, task)
    outputs = (*returned, *written) if written else tuple(returned)
    if not outputs:
        return None
    return outputs[0] if len(outputs) == 1 else outputs


def _own_inputs(call: PackedCall, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return the inputs of a call, with copies of those that it may change.

    These are results of other tasks: other readers, and this task run again, need them unchanged.
    """
    if not call.writes:
        return inputs
    changed = {call.places[place] for place in call.writes if place in call.places}
    if any(place not in call.places for place in call.writes):  # an object of the program's, with results inside it
        changed |= set(range(len(inputs))) - set(call.places.values())
    return [private_copy(value) if index in changed else value for index, value in enumerate(inputs)]


def _returned(value: Any, count: int, task: Any) -> Sequence[Any]:
    if count == 0:
        return ()
    return (value,) if count == 1 else _counted(value, count, task)


def _counted(value: Any, count: int, task: Any) -> Sequence[Any]:
    """Return the values of a task that declared more than one; TypeError if it returned another number."""
    if isinstance(value, (tuple, list)) and len(value) == count:
        return value
    got = f"{len(value)} values" if isinstance(value, (tuple, list)) else f"one {type(value).__name__}"
    raise TypeError(f"{task.name} is declared to return {count} values and returned {got}: correct returns= in @task")


def _prepare_file(path: str, copy_from: str | None) -> None:
    """Bring the file into the state in which the task expects it, whatever an earlier attempt left."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if copy_from is not None:
        shutil.copyfile(copy_from, path)
    elif os.path.exists(path) and copy_from is None:
        os.unlink(path)


def _raise(error: BaseException, call: PackedCall, task: Any, inputs: Sequence[Any]) -> NoReturn:
    """Raise `error` so that it reaches the program as itself, with all that is known of where it happened."""
    trace: types.TracebackType | None = field_of(error, "__traceback__")
    error = _no_order(error)
    if "only works in main thread" in text_of(error):
        add_note(error, _ONLY_MAIN_THREAD.format(task.name))
    add_note(
        error,
        f"raised in task {task.name} (call {call.task_id}) on node {node_name()}, process {os.getpid()}, "
        f"thread {threading.get_ident()}\n"
        f"arguments: {_argument_types(call, task, inputs)}\n"
        f"traceback on the worker:\n{traceback_text(error, _from_the_program(trace))}",
    )
    set_root_task(error, call.task_id)
    try:
        raise error
    finally:
        del error, trace  # as above


def _no_order(error: BaseException) -> BaseException:
    """Return `error`, or what is told in place of one that is an order to the process: to this one, or the program."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        told = RemoteError(f"the task called for an exit: {text_of(error)}")
        return told.with_traceback(error.__traceback__)
    return error


def _from_the_program(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback from the first frame of the program on; the frames above it are runmem's."""
    below = trace
    while below is not None and below.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        below = below.tb_next
    return below or trace


def _argument_types(call: PackedCall, task: Any, inputs: Sequence[Any]) -> str:
    try:
        args, kwargs = unpack(call.data, inputs, call.places)
        return ", ".join(
            f"{task.signature.parameter_at(place)}: {type(value).__name__}"
            for place, value in [*enumerate(args), *kwargs.items()]
        )
    except Exception as error:
        return f"could not be unpacked ({type(error).__name__}: {error})"
