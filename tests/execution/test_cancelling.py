"""Deadlines of `Submitter`, and calls that are cancelled before they begin, or while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runmem import FILE_IN, FILE_INOUT, FILE_OUT, barrier, open_file, task, wait_on
from runmem.commands.decorators import binary
from runmem.errors import COMPSsException, TaskCancelledError
from runmem.execution.run import Run
from runmem.graph.call import Execution
from runmem.graph.groups import TaskGroup
from runmem.graph.synchronise import cancel_group


def _define() -> SimpleNamespace:
    @task(returns=1)
    def note_and_wait(folder, number, gate):
        """Leave a file of this number, then wait for the file `gate`."""
        (folder / str(number)).touch()
        while not (folder / gate).exists():
            time.sleep(0.01)
        return number

    @task(returns=1)
    def note(folder, number):
        (folder / str(number)).touch()
        return number

    @task(returns=1)
    def double(x):
        return 2 * x

    return SimpleNamespace(**locals())


tasks = _define()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    (tmp_path / "go").touch()  # of a test that failed: the run waits for its calls


def executions(*futures: Any) -> list[Execution]:
    return [future.version.execution for future in futures]


def begun(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


def test_a_deadline_ends_the_wait_and_nothing_else(run: Run, folder: Path) -> None:
    long = tasks.note_and_wait(folder, 1, "go")
    short = tasks.double(4)
    for call in (run.submitter.wait, lambda e, at: run.submitter.fetch([long.version], at)):
        with pytest.raises(TimeoutError, match=r"1 of \d calls unfinished at the deadline, first .*note_and_wait"):
            call(executions(long), time.monotonic() + 0.2)
    run.submitter.wait(executions(short), time.monotonic() + 60)
    with pytest.raises(TimeoutError, match=r"1 of 2 calls unfinished"):
        run.submitter.wait(executions(short, long), time.monotonic() + 0.1)
    with pytest.raises(TimeoutError):
        run.submitter.wait(None, time.monotonic())
    assert run.submitter.fetch([short.version], time.monotonic() + 60) == [8]
    assert not run.submitter.has_ended(long.version.execution)
    (folder / "go").touch()
    assert run.submitter.fetch([long.version], time.monotonic() + 60) == [1]


def test_what_has_not_begun_is_cancelled_and_what_needs_it(
    run: Run, folder: Path, eventually: Callable[..., Any]
) -> None:
    running = [tasks.note_and_wait(folder, number, "go") for number in (1, 2)]
    eventually(lambda: begun(folder) >= {1, 2})
    waiting = [tasks.note(folder, number) for number in range(3, 40)]
    needs = tasks.double(waiting[-1])
    kept = tasks.note(folder, 100)
    run.submitter.cancel(executions(*running, *waiting))
    for future in (waiting[0], waiting[-1], needs):
        with pytest.raises(TaskCancelledError, match=r"note \(call \d+\) was cancelled before it began"):
            wait_on(future)
    assert all(map(run.submitter.has_ended, executions(*waiting, needs)))
    for future in running:
        with pytest.raises(TaskCancelledError, match=r"note_and_wait \(call \d+\) was cancelled while it ran"):
            wait_on(future)
    assert wait_on(kept) == 100
    barrier()  # a cancelled call is no error that the program has not seen
    assert begun(folder) == {1, 2, 100}


def test_all_calls_are_cancelled_and_later_ones_run(run: Run, folder: Path, eventually: Callable[..., Any]) -> None:
    running = [tasks.note_and_wait(folder, number, "go") for number in (1, 2)]
    eventually(lambda: begun(folder) >= {1, 2})
    waiting = [tasks.note(folder, number) for number in range(3, 8)]
    chain = tasks.double(tasks.double(running[0]))
    run.submitter.cancel()
    run.submitter.cancel()  # nothing is left to cancel
    for future in (*running, *waiting, chain):
        with pytest.raises(TaskCancelledError):
            wait_on(future)
    assert wait_on(tasks.double(tasks.note(folder, 9))) == 18
    barrier()
    assert begun(folder) == {1, 2, 9}


def test_calls_of_a_bundle_are_cancelled_one_by_one(run: Run, folder: Path, eventually: Callable[..., Any]) -> None:
    """Short calls share Dask tasks: those of a bundle that are not cancelled still run, once."""
    wait_on([tasks.note(folder, number) for number in range(1000, 1400)])  # their duration is known now
    running = [tasks.note_and_wait(folder, number, "go") for number in (1, 2)]
    eventually(lambda: begun(folder) >= {1, 2})
    futures = {number: tasks.note(folder, number) for number in range(2000, 2200)}
    odd = [future for number, future in futures.items() if number % 2]
    run.submitter.cancel(executions(*odd))
    (folder / "go").touch()
    even = {number: future for number, future in futures.items() if number % 2 == 0}
    assert wait_on(list(even.values())) == list(even)
    assert wait_on(running) == [1, 2]
    for future in odd:
        with pytest.raises(TaskCancelledError):
            wait_on(future)
    assert {number for number in begun(folder) if number >= 2000} == set(even)


def test_calls_that_have_ended_are_not_cancelled(run: Run, folder: Path) -> None:
    ended = tasks.double(5)
    assert wait_on(ended) == 10
    run.submitter.cancel(executions(ended))
    assert wait_on(tasks.double(ended)) == 20


def _define_stubborn() -> SimpleNamespace:
    @task(returns=1)
    def swallow(folder, number):
        """Run on after each `Exception`."""
        (folder / str(number)).touch()
        while True:
            try:
                time.sleep(0.001)
            except Exception:
                continue

    @task(returns=1)
    def translate(folder, number):
        (folder / str(number)).touch()
        try:
            while True:
                time.sleep(0.001)
        except BaseException as error:
            raise ValueError("something else") from error

    @task(returns=1)
    def clean_up(folder, number):
        (folder / str(number)).touch()
        try:
            while True:
                time.sleep(0.001)
        finally:
            (folder / "cleaned").touch()

    return SimpleNamespace(**locals())


def _define_policies() -> SimpleNamespace:
    @task(returns=1, on_failure="RETRY")
    def tried_again(folder, number):
        with open(folder / str(number), "a") as file:
            file.write("x")
        while True:
            time.sleep(0.001)

    @task(returns=1, on_failure="IGNORE", defaults={"returns": 5})
    def ignored(folder, number):
        (folder / str(number)).touch()
        while True:
            time.sleep(0.001)

    return SimpleNamespace(**locals())


def _define_outputs() -> SimpleNamespace:
    @task(path=FILE_OUT)
    def write(folder, path):
        Path(path).write_text("a part")
        (folder / "1").touch()
        while True:
            time.sleep(0.001)

    @task(path=FILE_IN, returns=1)
    def read(path):
        return Path(path).read_text()

    @binary(binary="sh", args="-c 'touch {{path}}; exec sleep 600'")
    @task(returns=1)
    def command(path):
        pass

    @task(returns=1)
    def spin(limit):
        for _ in range(limit):
            pass
        return limit

    return SimpleNamespace(**locals())


stubborn, policies, outputs = _define_stubborn(), _define_policies(), _define_outputs()


def cancelled(future: Any) -> TaskCancelledError:
    """Return the error of a future that was cancelled while it ran; the wait ends."""
    with pytest.raises(TaskCancelledError, match="was cancelled while it ran") as raised:
        wait_on(future)
    return raised.value


@pytest.mark.parametrize("name", ["swallow", "translate", "clean_up", "tried_again", "ignored"])
def test_the_function_of_a_running_call_ends(
    run: Run, folder: Path, eventually: Callable[..., Any], records_of: Callable[..., Any], name: str
) -> None:
    future = getattr(stubborn if hasattr(stubborn, name) else policies, name)(folder, 1)
    needs = tasks.double(future)
    eventually(lambda: begun(folder) == {1})
    run.submitter.cancel(executions(future))
    assert name in str(cancelled(future))
    cancelled(needs)
    assert wait_on([tasks.double(number) for number in range(8)]) == list(range(0, 16, 2))  # of both threads
    record = next(r for r in records_of(run, f".{name}") if r.task_id == future.version.execution.task_id)
    assert (record.status, record.exception, record.reason) == ("cancelled", None, "the program cancelled it")
    assert record.peak_bytes
    assert (folder / "cleaned").exists() == (name == "clean_up")
    assert name != "tried_again" or (folder / "1").read_text() == "x"
    barrier()


def test_a_file_that_a_cancelled_call_has_begun_is_as_before(
    run: Run, folder: Path, eventually: Callable[..., Any]
) -> None:
    path = str(folder / "new.txt")
    outputs.write(folder, path)
    eventually(lambda: begun(folder) == {1})
    run.submitter.cancel()
    barrier()
    assert not Path(path).exists()
    Path(path).write_text("whole")
    assert wait_on(outputs.read(path)) == "whole"


def test_the_command_of_a_cancelled_call_is_ended(run: Run, folder: Path, eventually: Callable[..., Any]) -> None:
    future = outputs.command(str(folder / "1"))
    eventually(lambda: begun(folder) == {1})
    run.submitter.cancel(executions(future))
    cancelled(future)
    assert wait_on(tasks.double(2)) == 4


def test_the_rest_of_a_bundle_runs_when_one_of_its_calls_is_ended(
    run: Run, folder: Path, eventually: Callable[..., Any]
) -> None:
    (folder / "go").touch()
    wait_on([tasks.note_and_wait(folder, number, "go") for number in range(1000, 1400)])  # short: they share bundles
    futures = [tasks.note_and_wait(folder, number, "gate" if number == 2010 else "go") for number in range(2000, 2100)]
    eventually(lambda: 2010 in begun(folder))
    run.submitter.cancel(executions(futures[10]))
    cancelled(futures[10])
    del futures[10]
    assert wait_on(futures) == [number for number in range(2000, 2100) if number != 2010]


@pytest.mark.slow
def test_a_call_that_ends_as_it_is_cancelled_has_its_result_or_is_cancelled(run: Run) -> None:
    ends = {"result": 0, "cancelled": 0}
    for number in range(300):
        limit = 20_000 + 1_000 * (number % 60)
        future = outputs.spin(limit)
        time.sleep(0.0005 * (number % 11))
        run.submitter.cancel(executions(future))
        beside = tasks.double(number)
        try:
            assert wait_on(future) == limit
            ends["result"] += 1
        except TaskCancelledError:
            ends["cancelled"] += 1
        assert wait_on(beside) == 2 * number
    barrier()
    assert wait_on([tasks.double(number) for number in range(50)]) == [2 * number for number in range(50)]


def test_a_group_whose_task_raises_ends_the_others(folder: Path, run: Run, eventually: Callable[..., Any]) -> None:
    @task()
    def fail(folder):
        while not (folder / "1").exists():
            time.sleep(0.01)
        raise COMPSsException("on purpose")

    others = []

    def fail_in_a_group() -> None:
        with TaskGroup("with a failure"):
            others.append(stubborn.swallow(folder, 1))
            fail(folder)

    with pytest.raises(COMPSsException, match="on purpose"):
        fail_in_a_group()
    assert wait_on(others) == [None]


@task(path=FILE_INOUT)
def append_late(path, folder):
    (Path(folder) / "1").touch()
    time.sleep(1)
    for _ in range(100):  # here it ends
        time.sleep(0.01)
    with open(path, "a") as file:
        file.write("cancelled ")


@task(path=FILE_INOUT)
def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def test_later_calls_go_on_from_the_state_before_a_cancelled_one(
    run: Run, folder: Path, eventually: Callable[..., Any]
) -> None:
    path = str(folder / "text")
    Path(path).write_text("first ")
    with TaskGroup("late", False):
        append_late(path, folder)
        append_late(path, folder)
    eventually(lambda: begun(folder) == {1})
    cancel_group("late")
    append(path, "second")
    with open_file(path) as file:
        assert file.read() == "first second"
