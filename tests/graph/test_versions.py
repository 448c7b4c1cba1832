"""Random programs that read and write a few objects give what they give when they run one call after the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from runmem.graph.current import set_current_program
from runmem.graph.directions import COMMUTATIVE, CONCURRENT, IN, INOUT, OUT
from runmem.graph.synchronise import delete_object, wait_on
from runmem.graph.task import task


class Box:
    def __init__(self) -> None:
        self.items: list[Any] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self.items == other.items

    @task()
    def put(self, item):
        self.items.append(item)

    @task(returns=1, target_direction=IN)
    def seen(self):
        return list(self.items)


@task(returns=1)
def read(data):
    return repr(_plain(data))


@task(data=INOUT)
def append(data, item):
    _items(data).append(item)


@task(data=OUT)
def refill(data, item):
    _items(data)[:] = [item]


@task(returns=1, source=IN, target=INOUT)
def move(source, target):
    _items(target).append(len(_items(source)))
    return len(_items(target))


@task(a=INOUT, b=COMMUTATIVE, returns=2)
def swap(a, *, b):
    _items(a)[:], _items(b)[:] = list(_items(b)), list(_items(a))
    return len(_items(a)), len(_items(b))


@task(data=CONCURRENT)
def shrink(data):
    del _items(data)[:-3]


@task(returns=list)
def fresh(item):
    return [item]


def _items(data):
    return data if isinstance(data, list) else data["items"] if isinstance(data, dict) else data.items


def _plain(data):
    if isinstance(data, Box):
        return _plain(data.items)
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(item) for item in data] if isinstance(data, (list, tuple)) else data


def run_random_program(seed: int, length: int = 40) -> list[Any]:  # noqa: C901 - a branch for each action
    """Run a program of random calls and return all that it has seen."""
    choose = random.Random(seed)
    data: list[Any] = [[], {"items": [0]}, Box()]
    seen: list[Any] = []
    for step in range(length):
        place = choose.randrange(len(data))
        datum, other = data[place], data[choose.randrange(len(data))]
        action = choose.choice(
            (
                "read",
                "append",
                "append",
                "refill",
                "move",
                "swap",
                "shrink",
                "fresh",
                "nested",
                "future",
                "wait",
                "change",
            )
        )
        if action == "read":
            seen.append(read(datum))
        elif action == "append":
            append(datum, step)
        elif action == "refill":
            refill(data=datum, item=step)
        elif action == "move":
            seen.append(move(source=other, target=datum))
        elif action == "swap" and datum is not other:
            seen.extend(swap(datum, b=other))
        elif action == "shrink":
            shrink(datum)
        elif action == "fresh":
            data.append(fresh(step))
        elif action == "nested":
            seen.append(read([datum, {"x": other, "y": (datum,)}]))
        elif action == "future":
            append(datum, seen[-1] if seen else step)
        elif action == "wait":
            data[place] = wait_on(datum)
            delete_object(datum)
        elif action == "change":
            data[place] = changed = wait_on(datum)
            delete_object(datum)
            _items(changed).append("by the program")
    return [_plain(item) for item in wait_on([*seen, *data])]


@pytest.mark.parametrize("block", range(10))
def test_random_programs_see_what_sequential_ones_see(block: int, start_program: Callable[..., Any]) -> None:
    for seed in range(block * 40, block * 40 + 40):
        set_current_program(None)
        expected = run_random_program(seed)
        submitter = start_program(seed, again=0.4)
        assert run_random_program(seed) == expected, f"seed {seed}"
        assert submitter.calls


def test_the_random_programs_run_calls_again_and_out_of_order(start_program: Callable[..., Any]) -> None:
    submitter = start_program(7, again=0.4)
    run_random_program(7)
    assert any(call.execution.state.times_run > 1 for call in submitter.calls)


def test_a_reader_never_sees_what_a_later_writer_does(start_program: Callable[..., Any]) -> None:
    for seed in range(20):
        start_program(seed, again=0.5)
        data: list[int] = []
        readings = []
        for item in range(6):
            readings.append(read(data))
            append(data, item)
        assert wait_on(readings) == [repr(list(range(item))) for item in range(6)]


def test_two_parameters_with_one_object_are_one_object_in_the_task(start_program: Callable[..., Any]) -> None:
    @task(a=INOUT, b=INOUT, returns=1)
    def same(a, b):
        a.append(len(b))
        return a is b

    def run() -> Any:
        data = [1]
        first = same(data, data)
        second = same(data, b=data)
        return wait_on([first, second, data])

    expected = run()
    start_program()
    assert run() == expected == [True, True, [1, 1, 2]]


def test_results_inside_a_written_object_stay_as_they_were(start_program: Callable[..., Any]) -> None:
    @task(data=INOUT)
    def touch_inner(data):
        data[0].append("touched")

    start_program(again=0.5)
    inner = fresh(1)
    outer = [inner]
    touch_inner(outer)
    assert wait_on(outer) == [[1, "touched"]]
    assert wait_on(inner) == [1]


def test_a_deleted_object_is_read_anew(start_program: Callable[..., Any]) -> None:
    start_program()
    data = [1]
    append(data, 2)
    assert delete_object(data)
    data.append(3)
    assert wait_on(read(data)) == "[1, 3]"
