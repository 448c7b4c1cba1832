"""A task changes a large array in place if nothing else can see it, and else a copy; the results are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runmem import INOUT, barrier, task, wait_on
from runmem.graph.directions import COLLECTION_INOUT
from runmem.units import MIB

SIZE = 66 * MIB  # the program's own arrays are sent for one call alone from 64 MiB on
LENGTH = SIZE // 8


def _define() -> SimpleNamespace:
    @task(returns=1)
    def create(length):
        return np.ones(length)

    @task(array=INOUT)
    def update(array):
        array += 1

    @task(returns=1)
    def total(array):
        return float(array.sum())

    @task(returns=1)
    def half(array):
        return array[: len(array) // 2]

    @task(array=INOUT, returns=1)
    def update_and_give(array):
        array += 1
        return array[: len(array) // 2]

    @task(arrays=COLLECTION_INOUT)
    def update_each(arrays):
        for array in arrays:
            array += 1

    return SimpleNamespace(**locals())


def _define_failing() -> SimpleNamespace:
    def raise_once(array, path):
        array[: len(array) // 2] += 1
        if not path.exists():
            path.touch()
            raise ValueError("in the middle")
        array[len(array) // 2 :] += 1

    @task(array=INOUT, on_failure="RETRY")
    def retried(array, path):
        raise_once(array, path)

    @task(array=INOUT, on_failure="IGNORE")
    def ignored(array, path):
        raise_once(array, path)

    @task(array=INOUT)
    def failing(array, path):
        raise_once(array, path)

    return SimpleNamespace(**locals())


tasks = _define()
bad = _define_failing()


class Holder:
    """An object that has a large array."""

    def __init__(self, length: int) -> None:
        self.array = np.ones(length)

    @task(target_direction=INOUT)
    def update(self) -> None:
        self.array += 1

    @task(target_direction=INOUT)
    def replace(self) -> None:
        self.array = self.array + 1
        self.array = self.array + 1


@task(returns=1)
def held(length: int) -> Holder:
    return Holder(length)


@pytest.fixture(scope="module")
def ran(run: Any, records_of: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs calls, and gives the records of the tasks of some name that they have made."""

    def ran(name: str, calls: Callable[[], Any]) -> tuple[Any, list[Any]]:
        before = len(records_of(run, name))
        result = calls()
        barrier()
        return result, records_of(run, name)[before:]

    return ran


def chain(array: Any) -> float:
    for _ in range(5):
        tasks.update(array)
    return float(wait_on(tasks.total(array)))


def test_each_update_of_a_result_holds_one_copy(ran: Callable[..., Any]) -> None:
    result, records = ran("update", lambda: chain(tasks.create(LENGTH)))
    assert result == 6.0 * LENGTH
    assert len(records) == 5
    for record in records:
        assert record.peak_bytes - record.base_bytes < SIZE / 4
        assert record.increment_bytes < SIZE / 4


def test_each_update_of_an_array_of_the_program_holds_one_copy(ran: Callable[..., Any]) -> None:
    array = np.ones(LENGTH)
    result, records = ran("update", lambda: chain(array))
    assert result == 6.0 * LENGTH
    assert array.sum() == LENGTH
    for record in records:
        assert record.peak_bytes - record.base_bytes < SIZE / 4


def test_an_object_is_updated_in_place_too(ran: Callable[..., Any]) -> None:
    def calls() -> float:
        holder = held(LENGTH)
        for _ in range(3):
            Holder.update(holder)
        return float(wait_on(holder).array.sum())

    result, records = ran("Holder.update", calls)
    assert result == 4.0 * LENGTH
    assert len(records) == 3
    assert all(record.peak_bytes - record.base_bytes < SIZE / 4 for record in records)


def test_elements_of_a_collection_are_updated_in_place(ran: Callable[..., Any]) -> None:
    def calls() -> list[float]:
        arrays = [tasks.create(LENGTH), tasks.create(LENGTH)]
        barrier()
        tasks.update_each(arrays)
        return [float(wait_on(tasks.total(array))) for array in arrays]

    result, (record,) = ran("update_each", calls)
    assert result == [2.0 * LENGTH] * 2
    assert record.peak_bytes - record.base_bytes < 1.5 * SIZE  # one may have come from the other worker


def test_memory_that_a_task_frees_is_not_hidden(ran: Callable[..., Any]) -> None:
    def calls() -> float:
        holder = held(LENGTH)
        Holder.replace(holder)
        return float(wait_on(holder).array.sum())

    result, (record,) = ran("Holder.replace", calls)
    assert result == 3.0 * LENGTH
    assert 1.9 * SIZE < record.increment_bytes < 2.1 * SIZE  # two new arrays, when the old one is gone
    assert record.peak_bytes - record.base_bytes < 1.1 * SIZE


def another_reader(folder: Path) -> Any:
    array = tasks.create(LENGTH)
    totals = []
    for _ in range(3):
        tasks.update(array)
        totals.append(tasks.total(array))
        tasks.update(array)
    return wait_on(totals), wait_on(tasks.total(array))


def a_part_is_kept(folder: Path) -> Any:
    array = tasks.create(LENGTH)
    parts = [tasks.half(array)]
    tasks.update(array)
    parts.append(tasks.update_and_give(array))
    tasks.update(parts[0])
    tasks.update(array)
    tasks.update(array)
    return [float(part.sum()) for part in wait_on(parts)], wait_on(tasks.total(array))


def it_is_fetched(folder: Path) -> Any:
    array = tasks.create(LENGTH)
    first = wait_on(array)
    tasks.update(array)
    second = wait_on(array)
    tasks.update(array)
    return [float(each.sum()) for each in (first, second, wait_on(array))]


def two_names(folder: Path) -> Any:
    array = tasks.create(LENGTH)
    same, inside = array, [array]
    tasks.update(array)
    tasks.update(same)
    tasks.update(inside[0])
    return wait_on(tasks.total(array)), wait_on(tasks.total(same)), wait_on(inside)[0].sum()


def equal_arrays(folder: Path) -> Any:
    first, second = np.ones(LENGTH), np.ones(LENGTH)
    tasks.update(first)
    before = tasks.total(second)
    tasks.update(second)
    tasks.update(second)
    return [wait_on(each) for each in (tasks.total(first), before, tasks.total(second))]


def it_is_retried(folder: Path) -> Any:
    array = tasks.create(LENGTH)
    bad.retried(array, folder / "retried")
    tasks.update(array)
    return wait_on(tasks.total(array))


def it_is_ignored(folder: Path) -> Any:
    array = tasks.create(LENGTH)
    bad.ignored(array, folder / "ignored")
    tasks.update(array)
    return wait_on(tasks.total(array))


def it_fails(folder: Path) -> Any:
    array, other = tasks.create(LENGTH), tasks.create(LENGTH)
    bad.failing(array, folder / "failing")
    tasks.update(other)
    try:
        return wait_on(array)
    except ValueError as error:
        return str(error), wait_on(tasks.total(other))


SCENES: dict[Callable[[Path], Any], Any] = {
    another_reader: ([2.0 * LENGTH, 4.0 * LENGTH, 6.0 * LENGTH], 7.0 * LENGTH),
    a_part_is_kept: ([1.0 * LENGTH, 1.5 * LENGTH], 5.0 * LENGTH),
    it_is_fetched: [1.0 * LENGTH, 2.0 * LENGTH, 3.0 * LENGTH],
    two_names: (4.0 * LENGTH,) * 3,
    equal_arrays: [2.0 * LENGTH, 1.0 * LENGTH, 3.0 * LENGTH],
    it_is_retried: 3.0 * LENGTH,
    it_is_ignored: 2.5 * LENGTH,
    it_fails: ("in the middle", 2.0 * LENGTH),
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_what_others_see_stays_as_it_is(scene: Callable[[Path], Any], run: Any, tmp_path: Path) -> None:
    assert scene(tmp_path) == SCENES[scene]
