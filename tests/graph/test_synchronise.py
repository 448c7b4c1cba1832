from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import ArgumentError
from runmem.graph.directions import FILE_OUT, INOUT
from runmem.graph.synchronise import barrier, delete_object, open_file, wait_on, wait_on_file
from runmem.graph.task import task


@task(returns=1)
def double(x):
    return x * 2


@task(values=INOUT)
def append(values, x):
    values.append(x)


@task(returns=1)
def fail(text):
    raise KeyError(text)


def test_wait_on_searches_containers(submitter: Any) -> None:
    found = wait_on({"a": [double(1), (double(2), "x")], "b": double(3), "c": {"d": double(4)}})
    assert found == {"a": [2, (4, "x")], "b": 6, "c": {"d": 8}}


def test_wait_on_several_arguments_gives_a_list(submitter: Any) -> None:
    assert wait_on(double(1), [double(2)], 7) == [2, [4], 7]


def test_wait_on_gives_other_things_as_they_are(submitter: Any) -> None:
    things = [1, "x", (2, [3]), {"a": None}]
    assert wait_on(things) is things
    assert wait_on() == []


def test_wait_on_a_list_that_holds_itself_ends(submitter: Any) -> None:
    ring: list[Any] = [double(2)]
    ring.append(ring)
    assert wait_on(ring)[0] == 4


def test_a_second_wait_gives_the_value_again(submitter: Any) -> None:
    future = double([1])
    first = wait_on(future)
    first.append(5)
    assert wait_on(future) == [1, 1]


def test_wait_on_gives_a_new_object_for_one_that_a_task_wrote(submitter: Any) -> None:
    values = [1]
    append(values, 2)
    assert values == [1]
    assert wait_on(values) == [1, 2]


def test_numbers_are_not_taken_for_each_other(submitter: Any) -> None:
    """There is one 5, one empty text and one empty tuple in a process: they must not be tracked by identity."""

    @task(x=INOUT)
    def touch(x):
        pass

    touch(None)
    assert wait_on(None) is None
    for value in (5, "", (), True, 2.5, b"", (1, "a"), frozenset()):
        with pytest.raises(ArgumentError, match=r"touch .*: parameter 'x' is declared INOUT, but a task cannot change"):
            touch(value)
    assert all(not call.execution.state.inputs for call in submitter.calls)


def test_an_error_reaches_wait_on_as_itself(submitter: Any) -> None:
    future = fail("why")
    with pytest.raises(KeyError, match="why"):
        wait_on(future)
    with pytest.raises(KeyError, match="why"):
        wait_on(double(future))


def test_barrier_raises_an_error_that_nobody_has_seen_and_only_that(submitter: Any) -> None:
    seen, unseen = fail("seen"), fail("unseen")
    with pytest.raises(KeyError, match="seen"):
        wait_on(seen)
    with pytest.raises(KeyError, match="unseen"):
        barrier()
    barrier()
    del unseen


def test_barrier_runs_everything(submitter: Any) -> None:
    futures = [double(i) for i in range(5)]
    barrier()
    assert all(call.execution.state.times_run == 1 for call in submitter.calls)
    assert wait_on(futures) == [0, 2, 4, 6, 8]


def test_delete_object_tells_whether_all_were_known(submitter: Any) -> None:
    values, never = [1], [2]
    append(values, 2)
    assert delete_object(double(1))
    assert not delete_object(values, never)
    assert not delete_object(values)
    assert wait_on(values) == [1]
    only_read = [3]
    double(only_read)
    assert delete_object(only_read)
    assert not delete_object(only_read)


def test_a_deleted_future_has_no_value_any_more(submitter: Any) -> None:
    first, second = double(1), double(2)
    kept = weakref.ref(second.version.execution)
    assert delete_object([first, second])
    assert not delete_object(first)
    submitter.calls.clear()
    gc.collect()
    assert kept() is None
    for use in (lambda: wait_on([first]), lambda: double(first), lambda: append([], first)):
        with pytest.raises(ArgumentError, match=r"the value of double \(call 1\) is gone: .* after its last use"):
            use()


def test_delete_object_searches_containers(submitter: Any) -> None:
    values, others = [1], [2]
    append(values, 2)
    append(others, 3)
    assert delete_object([values, {"others": (others,)}])
    assert wait_on([values, others]) == [[1], [2]]


def test_without_a_program_everything_is_plain(tmp_path: Path) -> None:
    values = [1]
    append(values, 2)
    barrier()
    assert wait_on(values) is values
    assert wait_on(values, 3) == [[1, 2], 3]
    assert delete_object(values)
    path = tmp_path / "a.txt"
    with open_file(path, "w") as out:
        out.write("x")
    assert wait_on_file(path) == path
    assert wait_on_file(path, "b") == [path, "b"]


@task(path=FILE_OUT)
def write(path, text):
    Path(path).write_text(text)


@pytest.mark.parametrize(("mode", "expected"), [("r", "new"), ("rb", b"new"), ("r+", "new"), ("a+", "new")])
def test_open_file_waits_for_its_writer(mode: str, expected: Any, tmp_path: Path, submitter: Any) -> None:
    path = tmp_path / "out.txt"
    write(path, "old")
    write(str(path), "new")
    with open_file(path, mode) as file:
        file.seek(0)
        assert file.read() == expected
