"""Deadlines of `Submitter`, and calls that are cancelled before they begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runmem import barrier, task, wait_on
from runmem.errors import TaskCancelledError
from runmem.execution.run import Run
from runmem.graph.call import Execution


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
    assert not any(map(run.submitter.has_ended, executions(*running)))
    (folder / "go").touch()
    assert wait_on([*running, kept]) == [1, 2, 100]
    barrier()  # a cancelled call is no error that the program has not seen
    assert begun(folder) == {1, 2, 100}


def test_all_calls_are_cancelled_and_later_ones_run(run: Run, folder: Path, eventually: Callable[..., Any]) -> None:
    running = [tasks.note_and_wait(folder, number, "go") for number in (1, 2)]
    eventually(lambda: begun(folder) >= {1, 2})
    waiting = [tasks.note(folder, number) for number in range(3, 8)]
    chain = tasks.double(tasks.double(running[0]))
    run.submitter.cancel()
    run.submitter.cancel()  # nothing is left to cancel
    (folder / "go").touch()
    assert wait_on(running) == [1, 2]
    for future in (*waiting, chain):
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
