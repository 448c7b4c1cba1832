"""What happens to calls on a worker, without a cluster around it."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import re
import signal
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runmem.commands.decorators import binary
from runmem.errors import ArgumentError
from runmem.graph.call import FileUse
from runmem.graph.directions import FILE_IN, FILE_INOUT, INOUT
from runmem.graph.task import TaskFunction, task
from runmem.serialization.definitions import program_definitions
from runmem.serialization.inputs import PackedArguments
from runmem.serialization.packed import Wrapped, load_stored, pack_value
from runmem.serialization.snapshot import Snapshots
from runmem.serialization.task_error import RemoteError, root_task
from runmem.worker.bundle_runner import run_bundle
from runmem.worker.packed_call import BundleFailed, PackedCall, PackedTask

UNKNOWN_RUN = "a run that this process does not work for"


def a_call(args: Any = (), kwargs: Any = None, **more: Any) -> PackedCall:
    given: dict[str, Any] = {"task": 0}
    data = pickle.dumps((list(args), kwargs or {}))
    if written := [place for place in more.get("writes", ()) if place not in more.get("places", {})]:
        data = pickle.dumps({place: args[place] for place in written}) + data
        given["own"] = 0
    given |= more
    packed = {name: given.pop(name) for name in PackedArguments._fields if name in given}
    arguments = PackedArguments(data, **packed)
    return PackedCall(task_id=given.pop("task_id", 1), arguments=arguments, **given)


def run(function: TaskFunction | list[TaskFunction], calls: list[PackedCall], *dependencies: Any) -> Any:
    """Run a bundle; return its results as the program gets them."""
    return _shown(run_bundle(UNKNOWN_RUN, "key-1", *_packed(function, calls), *(_kept(d) for d in dependencies)))


def _packed(function: TaskFunction | list[TaskFunction], calls: list[PackedCall]) -> tuple[list[PackedTask], bytes]:
    functions = function if isinstance(function, list) else [function]
    tasks = []
    for each in functions:
        snapshot = Snapshots(program_definitions).of(each, frozenset())
        number = program_definitions.number_of(each)
        reference = pickle.dumps(each) if number is None else None
        outline, constants = (snapshot.outline, snapshot.constants) if snapshot is not None else (None, b"")
        tasks.append(PackedTask(each.name, reference, number, outline, constants, each.returns.count))
    return tasks, pickle.dumps(calls)


def _kept(value: Any) -> Any:
    if isinstance(value, tuple):
        return Wrapped(tuple(_inner(item) for item in value))
    return pack_value(value, "a value")


def _inner(value: Any) -> Any:
    return (
        tuple(pack_value(item, "a value") for item in value)
        if isinstance(value, tuple)
        else pack_value(value, "a value")
    )


def _shown(kept: Any) -> Any:
    if isinstance(kept, (Wrapped, tuple)):
        return tuple(_shown(value) for value in (kept.values if isinstance(kept, Wrapped) else kept))
    return load_stored(kept)


def error_of(raised: Any, position: int = 0) -> BaseException:
    failed: BundleFailed = pickle.loads(pickle.dumps(raised.value))
    good, packed = failed.outcomes[position]
    assert not good
    return packed.load()


@task(returns=1)
def add(a, b=1):
    return a + b


@task(returns=2)
def pair(a):
    return a


@task(data=INOUT)
def append(data, item):
    data.append(item)


@task(returns=1)
def fail(error):
    raise error


def test_a_single_call_gives_its_result() -> None:
    assert run(add, [a_call([1], {"b": 5})]) == 6


def test_results_of_others_are_put_in_their_places() -> None:
    calls = [a_call([None, None], places={0: 0, 1: 1}, sources=[(0, None, None), (1, 2, 1)])]
    assert run(add, calls, 10, ("a", "b", (7, 8))) == 18


def test_calls_of_a_bundle_use_the_results_of_earlier_ones() -> None:
    calls = [a_call([1]), a_call([None], places={0: 0}, sources=[(-1, 0, None)])]
    assert run(add, calls) == (2, 3)


def test_a_written_result_of_another_task_stays_as_it_was() -> None:
    stored = [1]
    calls = [a_call([None, 5], places={0: 0}, sources=[(0, None, None)], writes=(0,))]
    kept = pack_value(stored, "a list")
    for _ in range(2):  # as when Dask runs it again
        assert _shown(run_bundle(UNKNOWN_RUN, "key-1", *_packed(append, calls), kept)) == [1, 5]
    assert load_stored(kept) == [1]


def test_more_than_one_output_is_a_tuple_with_the_written_ones_last() -> None:
    @task(data=INOUT, returns=1)
    def push(data, item):
        data.append(item)
        return len(data)

    assert run(push, [a_call([[1], 2], writes=(0,))]) == (2, [1, 2])


@pytest.mark.parametrize(("value", "told"), [((1, 2, 3), "3 values"), (5, "one int"), (None, "one NoneType")])
def test_the_wrong_number_of_values_is_told(value: Any, told: str) -> None:
    with pytest.raises(BundleFailed) as raised:
        run(pair, [a_call([value])])
    error = error_of(raised)
    assert re.fullmatch(
        rf"pair \({__file__}:\d+\) is declared to return 2 values, but returned {told}: correct returns= in @task",
        str(error),
    )
    assert "bundle_runner" not in error.__notes__[0].replace(__file__, "")  # no frame of runmem


def test_an_error_tells_where_it_happened() -> None:
    with pytest.raises(BundleFailed) as raised:
        run(fail, [a_call([ValueError("why")], task_id=12)])
    error = error_of(raised)
    assert type(error) is ValueError
    (note,) = error.__notes__
    assert note.startswith("raised in task fail (call 12) on node ")
    assert f"process {os.getpid()}" in note
    assert "arguments: error: ValueError" in note
    assert note.index("Traceback") < note.index("in fail") < note.index("ValueError: why")
    assert "_invoke" not in note  # it begins in the program


@pytest.mark.parametrize("exit_error", [SystemExit(3), KeyboardInterrupt()])
def test_a_task_that_calls_for_an_exit_does_not_end_its_worker(exit_error: BaseException) -> None:
    with pytest.raises(BundleFailed) as raised:
        run(fail, [a_call([exit_error])])
    error = error_of(raised)
    assert type(error) is RemoteError
    assert "the task called for an exit" in str(error)


def test_a_failed_call_costs_only_those_that_need_it() -> None:
    calls = [
        a_call([1], task=0),
        a_call([ValueError("why")], task=1, task_id=2),
        a_call([None], places={0: 0}, sources=[(-1, 1, None)], task=0, task_id=3),
        a_call([5], task=0),
    ]
    with pytest.raises(BundleFailed, match="some calls of the bundle key-1 raised") as raised:
        run([add, fail], calls)
    outcomes = raised.value.outcomes
    assert [good for good, _ in outcomes] == [True, False, False, True]
    assert (outcomes[0][1], outcomes[3][1]) == (2, 6)
    for position in (1, 2):
        assert "raised in task fail (call 2)" in error_of(raised, position).__notes__[0]


def test_a_file_is_brought_into_the_state_that_the_task_expects(tmp_path: Path) -> None:
    @task(path=FILE_INOUT, returns=1)
    def extend(path):
        with open(path, "a") as file:
            file.write("+")
        return Path(path).read_text()

    (tmp_path / "v1").write_text("1")
    target = str(tmp_path / "v2" / "a")
    use = FileUse(target, True, str(tmp_path / "v1"), places={0: target})
    assert [run(extend, [a_call([target], files=(use,))]) for _ in range(2)] == ["1+", "1+"]
    use = use._replace(copy_from=None)
    assert [run(extend, [a_call([target], files=(use,))]) for _ in range(2)] == ["+", "+"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_during_which_its_file_was_replaced_runs_once_more(fails: bool, tmp_path: Path) -> None:
    """Only one that runs again can find that: nothing comes into place while a call runs for the first time."""
    path, kept = tmp_path / "a", tmp_path / "v1" / "a"
    path.write_text("old")
    kept.parent.mkdir()

    @task(path=FILE_IN, returns=1)
    def read(path, seen, fails):
        file = Path(path)
        if not Path(seen).exists():
            os.rename(file, seen)
            if not fails:
                file.write_text("new")
        return file.read_text(), len(path)

    use = FileUse(str(path), kept=str(kept), places={0: str(path)})
    call = a_call([str(path), str(kept), fails], files=(use,))
    assert run(read, [call]) == ("old", len(str(kept)))


class Held:
    """Something that a task holds while it fails."""


held: list[weakref.ref[Held]] = []


@task(returns=1)
def hold_and_fail(error: BaseException) -> None:
    mine = Held()
    held.append(weakref.ref(mine))
    raise type(error)(*error.args)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_what_a_failed_task_held_is_let_go_at_once(error: BaseException) -> None:
    held.clear()
    gc.disable()
    try:
        with pytest.raises(BundleFailed) as raised:
            run(hold_and_fail, [a_call([error]), a_call([error])])
        del raised
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


def test_a_refused_write_to_a_shared_array_names_the_remedies() -> None:
    @task(returns=1)
    def change(block):
        block += 1

    block = np.zeros(100_000)
    calls = [a_call([None], places={0: 0}, sources=[(0, None, None)])]
    with pytest.raises(BundleFailed) as raised:
        run(change, calls, block)
    error = error_of(raised)
    assert type(error) is ValueError
    assert "declare it INOUT" in error.__notes__[1]
    assert "--inputs=copied" in error.__notes__[1]
    (packed_task,), data = _packed(change, calls)
    copied = [packed_task._replace(copied=True)]
    assert run_bundle(UNKNOWN_RUN, "key-1", copied, data, pack_value(block, "a block")) is None
    assert block.sum() == 0


def test_what_cannot_be_made_again_on_the_worker_is_told_with_the_task() -> None:
    call = a_call([1])._replace(arguments=PackedArguments(pickle.dumps(([1], {}))[:-5]))
    with pytest.raises(BundleFailed) as raised:
        run(add, [call._replace(task_id=7)])
    error = error_of(raised)
    assert type(error) is ArgumentError
    assert "the arguments of task add (call 7) cannot be unpickled on the worker" in str(error)


def test_definitions_that_cannot_be_made_on_the_worker_are_told_with_the_task() -> None:
    tasks, calls = _packed(add, [a_call([1], task_id=7)])
    with pytest.raises(BundleFailed) as raised:
        run_bundle(UNKNOWN_RUN, "key-1", [tasks[0]._replace(outline=b"\x80")], calls)
    error = error_of(raised)
    assert "that task add uses cannot be recreated on the worker" in str(error)
    assert "raised in task add (call 7) on node" in error.__notes__[0]


def test_a_module_that_exits_where_it_is_imported_ends_no_worker() -> None:
    exits = b"csys\nexit\n(I3\ntR."  # a pickle that calls sys.exit(3)
    tasks, calls = _packed(add, [a_call([1]), a_call([2])])
    for changed in (tasks[0]._replace(reference=exits), tasks[0]._replace(outline=exits)):
        with pytest.raises(BundleFailed) as raised:
            run_bundle(UNKNOWN_RUN, "key-1", [changed], calls)
        assert [good for good, _ in raised.value.outcomes] == [False, False]
        assert "SystemExit: 3" in str(error_of(raised))


class OwnInterrupt(BaseException):
    pass


@dataclass(frozen=True)
class BadPixel(Exception):
    x: int
    y: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


@task(returns=1)
def fail_with(cls, *args):
    raise cls(*args)


@pytest.mark.parametrize(
    ("cls", "args"),
    [
        (OwnInterrupt, ("stop",)), (asyncio.CancelledError, ("by itself",)), (GeneratorExit, ()), (BadPixel, (1, 2)),
        (Unprintable, ("why",)),
    ],
)  # fmt: skip
def test_whatever_a_task_raises_arrives_with_where_it_happened(cls: type, args: Any) -> None:
    with pytest.raises(BundleFailed) as raised:
        run(fail_with, [a_call([cls, *args], task_id=12)])
    again = error_of(raised)
    assert type(again) is cls
    assert again.args == args
    assert root_task(again) == 12
    assert "raised in task fail_with (call 12) on node " in again.__notes__[0]
    assert "in fail_with" in again.__notes__[0]


@binary(binary="no-such-program")
@task()
def no_such_command():
    pass


def test_the_note_of_a_failed_command_has_no_frames_of_runmem() -> None:
    with pytest.raises(BundleFailed) as raised:
        run(no_such_command, [a_call([], task_id=12)])
    error = error_of(raised)
    assert "'no-such-program' was not found on PATH" in str(error)
    assert "raised in task no_such_command (call 12) on node " in error.__notes__[0]
    assert "runmem" not in error.__notes__[0].replace(__file__, "")


class ExitsAndCannotBePrinted(SystemExit):
    def __str__(self) -> str:
        raise SystemExit(5)

    __repr__ = __str__


def test_an_exit_that_cannot_be_printed_fails_its_task_only() -> None:
    with pytest.raises(BundleFailed) as raised:
        run(fail, [a_call([ExitsAndCannotBePrinted(3)])])
    error = error_of(raised)
    assert type(error) is RemoteError
    assert str(error).startswith("the task called for an exit: ExitsAndCannotBePrinted")


@task(returns=1)
def handles_signals():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@task(returns=1)
def wakes_up():
    signal.set_wakeup_fd(-1)


@task(returns=1)
def handles_signals_of_a_loop():
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)

    asyncio.run(main())


@pytest.mark.parametrize("function", [handles_signals, wakes_up, handles_signals_of_a_loop], ids=lambda f: f.name)
def test_a_signal_handler_in_a_task_is_told_the_remedy(function: TaskFunction) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(BundleFailed) as raised:  # a worker has a thread for its tasks
        pool.submit(run, function, [a_call()]).result()
    error = error_of(raised)
    assert isinstance(error, (ValueError, RuntimeError))
    assert f"task {function.name} runs in a thread of the worker" in error.__notes__[0]
    assert "around wait_on" in error.__notes__[0]
    assert "raised in task" in error.__notes__[1]
