from __future__ import annotations

from typing import Any

import pytest

from runmem.errors import ArgumentError, COMPSsException
from runmem.graph.directions import INOUT
from runmem.graph.groups import TaskGroup
from runmem.graph.synchronise import barrier_group, cancel_group, wait_on
from runmem.graph.task import task


@task(values=INOUT)
def append(values, x):
    values.append(x)


@task(returns=1)
def fail(error):
    raise error


def ended(submitter: Any) -> list[int]:
    return [call.execution.task_id for call in submitter.calls if call.execution.state.ended]


def test_the_end_of_a_group_waits_for_its_tasks(submitter: Any) -> None:
    values: list[int] = []
    with TaskGroup("both"):
        append(values, 1)
        with TaskGroup("inner", implicit_barrier=False):
            append(values, 2)
    assert ended(submitter) == [1, 2]
    assert wait_on(values) == [1, 2]


def test_a_group_may_be_waited_for_later(submitter: Any) -> None:
    with TaskGroup("later", False):
        append([], 1)
    append([], 2)
    assert ended(submitter) == []
    barrier_group("later")
    assert 1 in ended(submitter)


def test_the_end_of_a_group_raises_what_a_task_raised(submitter: Any) -> None:
    with pytest.raises(KeyError), TaskGroup("fails"):
        future = fail(KeyError("x"))
    assert future is not None
    with TaskGroup("fails", False):
        again = fail(COMPSsException("y"))
    with pytest.raises(COMPSsException, match="y"):
        barrier_group("fails")
    assert again is not None


def test_an_error_of_the_program_leaves_a_group(submitter: Any) -> None:
    def leave() -> None:
        with TaskGroup("left"):
            append([], 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    append([], 2)
    barrier_group("left")
    assert submitter.calls[1].execution.group is None


def test_an_unknown_group_is_named(submitter: Any) -> None:
    with TaskGroup("known", False):
        pass
    with pytest.raises(ArgumentError, match="no group of tasks named 'unknown'; groups so far: 'known'"):
        barrier_group("unknown")


def test_without_a_program_a_group_does_nothing() -> None:
    with TaskGroup("plain"):
        pass
    barrier_group("plain")
    cancel_group("plain")


def test_a_refused_call_does_not_belong_to_its_group(submitter: Any) -> None:
    refusals = []
    with TaskGroup("outer"), TaskGroup("inner"):
        append([], 1)
        try:
            append(5, 1)  # a task cannot change a number
        except ArgumentError as error:
            refusals.append(error)  # which keeps what the call has made
    assert ended(submitter) == [1]
    assert refusals
