"""The functions of `pycompss.functions`, without a program and with one."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from runmem import session, task, wait_on
from runmem.pycompss.functions.data import chunks, generator
from runmem.pycompss.functions.elapsed_time import timeit
from runmem.pycompss.functions.map import map as map_to_list
from runmem.pycompss.functions.reduce import (
    merge_n_reduce,
    merge_reduce,
    mergeNReduce,
    mergeReduce,
    simple_reduce,
)


def joined(*texts: str) -> str:
    return "".join(texts)


def pair(first: str, second: str) -> str:
    return first + second


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_a_reduction_keeps_the_order_and_the_list(count: int) -> None:
    values = [chr(ord("a") + number) for number in range(count)]
    before = list(values)
    whole = functools.reduce(pair, values)
    assert mergeReduce is merge_reduce
    assert merge_reduce(pair, values) == merge_n_reduce(joined, 3, values) == simple_reduce(pair, values) == whole
    assert merge_reduce(pair, iter(values)) == whole
    assert values == before


def test_what_cannot_be_reduced() -> None:
    assert merge_reduce(pair, []) is None
    with pytest.raises(IndexError):
        merge_n_reduce(joined, 2, [])
    with pytest.raises(ValueError, match="arity=1 is less than 2"):
        merge_n_reduce(joined, 1, ["a", "b"])


def test_merge_n_reduce_of_old_programs_counts_the_arguments() -> None:
    def three(first: int, second: int, third: int) -> int:
        return first + second + third

    assert mergeNReduce(three, [1, 2, 3, 4, 5]) == [15]
    assert sorted(mergeNReduce(three, [1, 2, 3, 4])) == [4, 6]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("items", "size"), [(0, 3), (1, 3), (6, 3), (7, 3), (20, 6)])
def test_chunks_are_the_list(items: int, size: int, balanced: bool) -> None:
    made = list(chunks(list(range(items)), size, balanced))
    assert [item for chunk in made for item in chunk] == list(range(items))
    assert all(len(chunk) in ((size, size + 1) if balanced else (size,)) for chunk in made[:-1])


def test_balanced_chunks_are_of_two_lengths() -> None:
    assert [len(chunk) for chunk in chunks(list(range(11)), 3, balanced=True)] == [4, 4, 3]


def test_random_data_has_the_size_and_the_seed() -> None:
    data = generator((12, 5), 4, seed=5, distribution="random", wait=True)
    assert [(len(fragment), {len(row) for row in fragment}) for fragment in data] == [(3, {5})] * 4
    assert data == generator((12, 5), 4, seed=5, distribution="random", wait=True)
    others = [generator((12, 5), 4, 5, kind, True) for kind in ("normal", "uniform")]
    assert data != others[0] != others[1]
    assert all(-1 <= number <= 1 for fragment in others[1] for row in fragment for number in row)
    with pytest.raises(ValueError, match="'even' is not one of random, normal, uniform"):
        generator((1, 1), 1, distribution="even")


def test_timeit_gives_the_result_and_the_seconds() -> None:
    @timeit()
    def add(x: int, y: int) -> int:
        return x + y

    result, seconds = add(1, y=2)
    assert result == 3
    assert seconds >= 0
    assert add.__name__ == "add"


@task(returns=1)
def add_task(x: int, y: int) -> int:
    return x + y


@task(returns=1)
@timeit()
def timed_on_worker(x: int) -> int:
    return 2 * x


def test_with_a_program_they_take_tasks_and_futures(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with session(workers=1, summary=False):
        values = map_to_list(add_task, range(5), range(5))
        assert wait_on(merge_reduce(add_task, values)) == 20
        assert wait_on(simple_reduce(add_task, values)) == 20
        fragments = generator((4, 2), 2, seed=1)
        assert wait_on(fragments)[0] == wait_on(fragments)[1]
        submitted, seconds = timeit()(add_task)(1, 2)
        assert (wait_on(submitted), seconds >= 0) == (3, True)
        assert wait_on(timed_on_worker(4))[0] == 8
