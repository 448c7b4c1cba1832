"""With implicit synchronisation a future that is used as its value is waited for; an item cannot be assigned."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runmem import session
from runmem.graph.current import current_program
from runmem.graph.directions import INOUT
from runmem.graph.future import Future
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task


@task(returns=1)
def same(value: Any) -> Any:
    return value


@task(value=INOUT)
def append(value: list[int], item: int) -> None:
    value.append(item)


@pytest.fixture
def implicit(submitter: Any) -> Any:
    """Have a program that waits for futures that are used."""
    program = current_program()
    assert program is not None
    program.implicit_sync = True
    return submitter


USES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "add": (5, lambda x: x + 2),
    "radd": (5, lambda x: 2 + x),
    "sub": (5, lambda x: x - 2),
    "rsub": (5, lambda x: 2 - x),
    "mul": (5, lambda x: x * 3),
    "truediv": (5, lambda x: x / 2),
    "rtruediv": (5, lambda x: 2 / x),
    "floordiv": (5, lambda x: x // 2),
    "mod": (5, lambda x: x % 3),
    "rmod": (5, lambda x: 13 % x),
    "divmod": (5, lambda x: divmod(x, 2)),
    "rdivmod": (5, lambda x: divmod(12, x)),
    "pow": (5, lambda x: x**2),
    "pow modulo": (5, lambda x: pow(x, 3, 7)),
    "rpow": (5, lambda x: 2**x),
    "shift": (5, lambda x: (x << 2, 64 >> x)),
    "bits": (5, lambda x: (x & 4, x | 2, x ^ 1, 3 & x, 2 | x, ~x)),
    "signs": (-5, lambda x: (-x, +x, abs(x))),
    "compare": (5, lambda x: (x < 6, x <= 5, x > 6, x >= 6, x < 6)),
    "int": (5.5, int),
    "float": (5, float),
    "complex": (5, complex),
    "round": (5.567, lambda x: (round(x), round(x, 1))),
    "index": (2, lambda x: "abc"[x]),
    "len": ([1, 2], len),
    "iter": ([1, 2], list),
    "item": ({"a": 1}, lambda x: x["a"]),
    "slice": ("text", lambda x: x[1:3]),
    "contains": ([1, 2], lambda x: (1 in x, 3 in x)),
    "true": ([], bool),
    "not": ([0], lambda x: not x),
    "format": (5.25, lambda x: f"{x:.1f}"),
    "range": (3, lambda x: list(range(x))),
    "sum": ([1, 2], sum),
    "floor": (5, lambda x: math.sqrt(x)),
    "unpack": ((1, 2), lambda x: [*x]),
    "text": ("ab", lambda x: x + "c"),
    "increment": (5, lambda x: _incremented(x)),
}


def _incremented(x: Any) -> Any:
    x += 1
    return x


@pytest.mark.parametrize("use", USES)
def test_a_use_waits_for_the_value(implicit: Any, use: str) -> None:
    value, use_it = USES[use]
    assert use_it(same(value)) == use_it(value)


def test_futures_are_used_together(implicit: Any) -> None:
    assert same(2) + same(3) * same(4) == 14
    assert sum([same(number) for number in range(4)]) == 6
    assert max(same(3), same(5)) + 0 == 5


def test_arrays_are_used(implicit: Any) -> None:
    array = np.arange(3)
    assert (array + same(array)).tolist() == [0, 2, 4]
    assert (same(array) @ array, (array > same(1)).tolist()) == (5, [False, False, True])
    assert (np.sum(same(array)), np.maximum(array, same(1)).tolist()) == (3, [1, 1, 2])


def test_the_version_of_the_moment_is_used(implicit: Any) -> None:
    values = same([1])
    assert len(values) == 1
    append(values, 2)
    assert len(values) == 2
    assert (list(values), wait_on(values)) == ([1, 2], [1, 2])


def test_a_future_is_an_argument_as_ever(implicit: Any) -> None:
    future = same(3)
    again = same(future)
    assert isinstance(again, Future)
    assert future == future
    assert future != again
    assert len({future, again}) == 2


@pytest.mark.parametrize("change", [lambda x: operator.setitem(x, 0, 2), lambda x: operator.delitem(x, 0)])
def test_an_item_cannot_be_assigned(implicit: Any, change: Callable[[Any], None]) -> None:
    future = same([1])
    with pytest.raises(TypeError, match=r"so .*\[\.\.\.\].* does not work with it; get the value with wait_on first"):
        change(future)


def test_the_error_of_the_task_is_raised(implicit: Any) -> None:
    @task(returns=1)
    def fail() -> int:
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        len(fail())


@pytest.mark.parametrize("use", [use for use in USES if use not in ("true", "not")])
def test_it_is_off_by_default(submitter: Any, use: str) -> None:
    value, use_it = USES[use]
    with pytest.raises(TypeError):
        use_it(same(value))
    assert bool(same(value)) is True


def test_it_is_a_setting_of_a_run(tmp_path: Path) -> None:
    with session(implicit_sync=True, sequential=True, summary=False, run_folder=tmp_path):
        total = 0
        for number in same([1, 2, 3]):
            total += same(number)
        assert total == 6
