"""Collections whose elements are data of their own: the same result as by plain calls, whatever the order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import ArgumentError, TaskDeclarationError
from runmem.graph.directions import (
    COLLECTION_FILE_IN,
    COLLECTION_FILE_INOUT,
    COLLECTION_FILE_OUT,
    COLLECTION_IN,
    COLLECTION_INOUT,
    COLLECTION_OUT,
    DICTIONARY_INOUT,
    DICTIONARY_OUT,
    IN_DELETE,
    INOUT,
    Depth,
    Type,
)
from runmem.graph.synchronise import wait_on, wait_on_file
from runmem.graph.task import task


@task(returns=1)
def total(values):
    return sum(values)


@task(values=INOUT)
def add_to(values, x):
    values.append(x)


@task(blocks=COLLECTION_OUT)
def make(blocks, start):
    for i in range(len(blocks)):
        blocks[i] = [start + i]


@task(blocks=COLLECTION_INOUT)
def grow(blocks, x):
    for block in blocks:
        block.append(x)


@task(rows={Type: COLLECTION_INOUT, Depth: 2})
def double_rows(rows):
    for row in rows:
        for j in range(len(row)):
            row[j] = [2 * x for x in row[j]]


@pytest.mark.parametrize("seed", range(8))
def test_each_element_goes_to_other_tasks_by_itself(start_program: Callable[..., Any], seed: int) -> None:
    start_program(seed, again=0.3)
    blocks = [object() for _ in range(3)]
    make(blocks, 10)
    add_to(blocks[1], 5)
    sums = [total(block) for block in blocks]
    grow(blocks[:2], 1)
    assert wait_on(sums) == [10, 16, 12]
    assert wait_on(blocks) == [[10, 1], [11, 5, 1], [12]]


@pytest.mark.parametrize("seed", range(4))
def test_nested_and_ragged_collections(start_program: Callable[..., Any], seed: int) -> None:
    start_program(seed, again=0.3)
    rows = [[[1], [2]], [], [[3]]]
    double_rows(rows)
    double_rows(rows)
    add_to(rows[2][0], 7)
    assert wait_on(rows) == [[[4], [8]], [], [[12, 7]]]
    assert rows == [[[1], [2]], [], [[3]]]


def test_an_object_in_place_of_a_row_is_an_element(submitter: Any) -> None:
    @task(items={Type: COLLECTION_INOUT, Depth: 2})
    def change(items):
        items[0].add(1)
        items[1] = "b"
        items[2][0].append(9)

    items: list[Any] = [{0}, "a", [[1], [2]]]
    change(items)
    add_to(items[2][1], 5)
    assert wait_on(total(items[0])) == 1
    assert wait_on(items) == [{0, 1}, "b", [[1, 9], [2, 5]]]


def test_elements_that_cannot_be_told_apart_become_futures(submitter: Any) -> None:
    numbers: list[Any] = [None] * 3
    make(numbers, 1)
    assert wait_on([total(number) for number in numbers]) == [1, 2, 3]
    same: list[Any] = [[0]] * 2
    make(same, 4)
    assert wait_on(same) == [[4], [5]]


def test_numbers_in_a_written_collection_come_back(submitter: Any) -> None:
    @task(values=COLLECTION_INOUT)
    def increment(values):
        for i in range(len(values)):
            values[i] += 1

    values: list[Any] = [1, 2, 3]
    increment(values)
    increment(values)
    assert wait_on(values) == [2 + 1, 3 + 1, 4 + 1]


def test_futures_in_a_written_collection(submitter: Any) -> None:
    @task(returns=1)
    def start(x):
        return [x]

    futures = [start(1), start(2)]
    grow(futures, 9)
    assert wait_on(futures) == [[1, 9], [2, 9]]


def test_a_future_of_a_whole_collection_is_one_datum(submitter: Any) -> None:
    @task(returns=1)
    def several():
        return [[1], [2]]

    blocks = several()
    grow(blocks, 3)
    assert wait_on(blocks) == [[1, 3], [2, 3]]


def test_dictionaries(submitter: Any) -> None:
    @task(values=DICTIONARY_INOUT)
    def scale(values):
        for key in values:
            values[key] = [10 * x for x in values[key]]

    @task(values=DICTIONARY_OUT)
    def fill(values):
        for key in values:
            values[key] = [len(key)]

    values: dict[str, Any] = {"a": None, "bc": None}
    fill(values)
    scale(values)
    assert wait_on(total(values["bc"])) == 20
    assert wait_on(values) == {"a": [10], "bc": [20]}


def test_a_collection_of_variable_arguments(submitter: Any) -> None:
    @task(returns=1, varargs_type=COLLECTION_IN)
    def add(*values):
        return sum(sum(each) for each in values)

    assert wait_on(add([total([1]), total([2])], [3])) == 6


def test_a_read_datum_may_be_deleted(submitter: Any) -> None:
    @task(values=IN_DELETE, returns=1)
    def last(values):
        return values[-1]

    values = [1]
    add_to(values, 4)
    assert wait_on(last(values)) == 4
    assert wait_on(values) is values  # its versions are not known any more


def test_too_few_levels_are_refused_at_the_call(submitter: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"double_rows .*: parameter 'rows'.* argument\[0\] is 3 \(type int\).* with 1 more level"
    ):
        double_rows([3])
    with pytest.raises(ArgumentError, match="but a task cannot change .*: return the new value"):
        add_to(5, 1)
    assert submitter.calls == []


@task(rows={Type: COLLECTION_IN, Depth: 2}, returns=1)
def number_of(rows):
    return len(rows)


@pytest.mark.parametrize("rows", [[1, 2], ["ab"], {"a": 1}, 3, [b"c", 4]])
def test_too_few_levels_are_refused_also_if_the_task_only_reads(submitter: Any, rows: object) -> None:
    with pytest.raises(ArgumentError, match=r"number_of .*: parameter 'rows'.* is not nested so deeply: correct Depth"):
        number_of(rows)
    assert submitter.calls == []


def test_what_may_have_enough_levels_is_accepted(submitter: Any) -> None:
    values: list[list[int]] = [[1]]
    add_to(values[0], 2)
    for rows in ([], [[]], [[1], 2], [2, [1]], [None], [range(3)], [total([1])], total([1]), {"a": {"b": 1}}, values):
        number_of(rows)
    number_of(row for row in [[1]])


def test_an_element_that_a_task_removes_is_an_error(submitter: Any) -> None:
    @task(blocks=COLLECTION_INOUT)
    def shorten(blocks):
        del blocks[1]

    blocks = [[1], [2]]
    shorten(blocks)
    with pytest.raises(TypeError, match=r"has removed element \[1\]"):
        wait_on(blocks)


@pytest.mark.parametrize(
    "form", [{Type: INOUT, Depth: 2}, {Type: COLLECTION_IN, Depth: 0}, {Type: COLLECTION_IN, Depth: "2"}]
)
def test_a_depth_that_is_none_is_refused(form: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="Depth is 1 or more"):

        @task(values=form)
        def f(values):
            pass


@task(paths=COLLECTION_FILE_OUT)
def write_all(paths, text):
    for path in paths:
        Path(path).write_text(text + Path(path).name)


@task(paths=COLLECTION_FILE_INOUT)
def append_all(paths, text):
    for path in paths:
        with open(path, "a") as file:
            file.write(text)


@task(paths={Type: COLLECTION_FILE_IN, Depth: 2}, returns=1)
def read_all(paths):
    return [[Path(path).read_text() for path in row] for row in paths]


@pytest.mark.parametrize("seed", range(6))
def test_collections_of_files(start_program: Callable[..., Any], tmp_path: Path, seed: int) -> None:
    start_program(seed, again=0.3)
    a, b = str(tmp_path / "a"), tmp_path / "b"
    write_all([a, b], "1")
    first = read_all([[a], [b, a]])
    append_all((a, b), "+")
    second = read_all(((a,), ()))
    append_all([a], "-")
    assert wait_on(first) == [["1a"], ["1b", "1a"]]
    assert wait_on(second) == [["1a+"], []]
    assert wait_on_file(a) == a
    assert Path(a).read_text() == "1a+-"


def test_no_file_may_stand_for_a_path(submitter: Any) -> None:
    assert wait_on(read_none([None])) == [None]


@task(paths=COLLECTION_FILE_IN, returns=1)
def read_none(paths):
    return paths


@task(paths=COLLECTION_FILE_OUT)
def write_rows(paths, text):
    for row in paths:
        for path in row:
            Path(path).write_text(text)


@task(paths=COLLECTION_FILE_INOUT)
def append_rows(paths, text):
    for row in paths:
        for path in row:
            with open(path, "a") as file:
                file.write(text)


@pytest.mark.parametrize("seed", range(4))
def test_nested_collections_of_files_need_no_depth(
    start_program: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    start_program(seed, again=0.3)
    rows = [[str(tmp_path / "a"), str(tmp_path / "b")], [str(tmp_path / "c")]]
    write_rows(rows, "1")
    append_rows(rows, "2")
    wait_on_file(rows)
    assert [[Path(path).read_text() for path in row] for row in rows] == [["12", "12"], ["12"]]


class Key:
    """Equal to itself alone."""

    def __init__(self, name: str) -> None:
        self.name = name


@task(values=DICTIONARY_INOUT)
def double_values(values):
    for key in values:
        values[key] = values[key] * 2


@task(paths={Type: COLLECTION_FILE_OUT, Depth: 1})
def write_names(paths):
    for key, path in paths.items():
        Path(path).write_text(key.name)


@pytest.mark.parametrize("seed", range(4))
def test_keys_may_be_equal_to_themselves_alone(start_program: Callable[..., Any], tmp_path: Path, seed: int) -> None:
    start_program(seed, again=0.3)
    values = {Key("list"): [1], Key("number"): 2, "text": "ab"}
    keys = list(values)
    double_values(values)
    double_values(values)
    assert wait_on(values) == dict(zip(keys, ([1] * 4, 8, "ab" * 4), strict=True))
    paths = {Key(name): str(tmp_path / name) for name in ("x", "y")}
    write_names(paths)
    wait_on_file(*paths.values())
    assert [Path(path).read_text() for path in paths.values()] == ["x", "y"]
