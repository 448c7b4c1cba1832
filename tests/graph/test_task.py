"""Every kind of function and every way to call it gives what the plain call gives."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import pytest

from runmem.graph.current import set_current_program
from runmem.graph.directions import IN, INOUT
from runmem.graph.future import Future
from runmem.graph.synchronise import wait_on
from runmem.graph.task import TaskFunction, task


class Counter:
    made = 0

    def __init__(self, count: int = 0) -> None:
        self.count = count

    @task()
    def add(self, amount):
        self.count += amount

    @task(returns=int, target_direction=IN)
    def plus(self, amount, *, times=1):
        return self.count + amount * times

    @staticmethod
    @task(returns=1)
    def outer_static(x):
        return x * 2

    @task(returns=1)
    @staticmethod
    def inner_static(x):
        return x * 3

    @classmethod
    @task(returns=1)
    def outer_class(cls, x):
        return cls.__name__, x

    @task(returns=1)
    @classmethod
    def inner_class(cls, x):
        return cls.__name__, x


class Adder:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, x):
        return x + self.amount


@task(returns=1)
def everything(a, b=2, *args, c, d=4, **kwargs):
    return a, b, args, c, d, kwargs


@task(returns=1)
def total(values):
    return sum(values)


def make_scaled(factor):
    @task(returns=1)
    def scaled(x):
        return x * factor

    return scaled


CALLS = {
    "positional": lambda: everything(1, 2, 3, 4, c=5),
    "keywords": lambda: everything(a=1, c=3, z=9),
    "defaults": lambda: everything(1, c=3),
    "var keywords": lambda: everything(1, c=3, self=1, function=2, args=3),
    "static, decorated inside": lambda: Counter.outer_static(2),
    "static, decorated outside": lambda: Counter.inner_static(2),
    "static, on an instance": lambda: Counter().inner_static(x=2),
    "class, decorated inside": lambda: Counter.outer_class(2),
    "class, decorated outside": lambda: Counter.inner_class(2),
    "class, on an instance": lambda: Counter().outer_class(x=2),
    "method": lambda: Counter(5).plus(1, times=3),
    "method through its class": lambda: Counter.plus(Counter(5), 1),
    "lambda": lambda: task(returns=1)(lambda x: x + 1)(2),
    "closure": lambda: make_scaled(7)(6),
    "partial": lambda: task(returns=1)(functools.partial(pow, 10))(3),
    "callable object": lambda: task(returns=1)(Adder(5))(2),
    "built-in": lambda: task(returns=1)(len)([1, 2]),
    "positional only": lambda: task(returns=1)(lambda x, /, y=2: (x, y))(1),
    "no value": lambda: task(returns=0)(lambda: None)(),
    "several values": lambda: list(task(returns=2)(lambda: (1, [2]))()),
    "nested future": lambda: total([total([1, 2]), total((3, total([4])))]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_call_gives_what_the_plain_call_gives(call: Any, start_program: Any) -> None:
    expected = call()
    assert not isinstance(expected, Future)
    submitter = start_program()
    assert wait_on(call()) == expected
    assert submitter.calls


@pytest.mark.parametrize("arguments", [((), {}), ((1,), {}), ((1,), {"c": 1, "a": 2})])
def test_wrong_arguments_raise_at_the_call(arguments: Any, submitter: Any) -> None:
    args, kwargs = arguments
    with pytest.raises(TypeError) as plain:
        everything.function(*args, **kwargs)
    with pytest.raises(TypeError, match=r"everything\(a, b=2, \*args, c, d=4, \*\*kwargs\): ") as ours:
        everything(*args, **kwargs)
    assert type(ours.value) is type(plain.value)
    assert not submitter.calls


def test_too_many_positional_arguments_raise_at_the_call(submitter: Any) -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        total([1], [2])


def test_futures_are_arguments_at_any_depth(submitter: Any) -> None:
    @task(returns=1)
    def one():
        return 1

    @task(returns=1)
    def deep(first, *rest, **more):
        return first["a"][0][1] + rest[0].count + more["z"] + sum(more["both"])

    future = one()
    holder = Counter(future)
    assert wait_on(deep({"a": [(0, future)]}, holder, z=future, both=[future, future])) == 5


def test_a_method_changes_its_object_unless_it_only_reads(submitter: Any) -> None:
    counter = Counter(1)
    counter.add(2)
    counter.add(3)
    before = counter.plus(0)
    counter.add(10)
    assert wait_on(before) == 6
    assert wait_on(counter).count == 16


def test_the_future_of_a_users_class_has_its_task_methods(submitter: Any) -> None:
    @task(returns=Counter)
    def make():
        return Counter(7)

    made = make()
    made.add(1)
    assert wait_on(made.plus(2)) == 10
    with pytest.raises(AttributeError, match="get the value with wait_on first"):
        _ = made.count


def test_a_future_is_no_value(submitter: Any) -> None:
    future = total([1])
    assert future
    with pytest.raises(TypeError):
        future + 1
    with pytest.raises(TypeError):
        len(future)
    with pytest.raises(TypeError):
        iter(future)
    assert future in [future]


def test_arguments_are_read_at_the_call(submitter: Any) -> None:
    values = [1]
    first = total(values)
    values.append(2)
    second = total(values)
    assert wait_on(first, second) == [1, 3]


def test_a_task_of_a_module_is_pickled_by_reference() -> None:
    assert pickle.loads(pickle.dumps(everything)) is everything
    assert isinstance(everything, TaskFunction)


def test_a_name_is_kept_for_what_has_none() -> None:
    assert task()(functools.partial(pow, 10)).name == "pow"
    assert task()(Adder(1)).name == "Adder"
    assert task()(functools.partial(total.function)).name == "total"
    assert total.module == __name__


def test_without_a_program_a_call_is_a_plain_call() -> None:
    counter = Counter(1)
    counter.add(2)
    assert counter.count == 3
    assert total([1, 2]) == 3
    assert wait_on(counter) is counter


def test_a_default_that_a_task_writes_is_one_object_as_in_python(start_program: Any) -> None:
    def run():
        @task(seen=INOUT, returns=1)
        def note(x, seen=[]):  # noqa: B006 - this is what is tested
            seen.append(x)
            return list(seen)

        return wait_on([note(1), note(2)])

    expected = run()
    start_program()
    assert run() == expected == [[1], [1, 2]]


def test_the_end_of_the_program_makes_tasks_plain_calls_again(start_program: Any) -> None:
    start_program()
    assert isinstance(total([1]), Future)
    set_current_program(None)
    assert total([1]) == 1
