from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from runmem.errors import TaskDeclarationError
from runmem.graph.returns import Returns, declared_returns
from runmem.graph.task import task
from runmem.memory.profile import profile

if TYPE_CHECKING:
    from collections import OrderedDict

THREE = 3


class Thing:
    pass


def f(x):
    return x


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (0, Returns(0)), (1, Returns(1)), (3, Returns(3)), ("2", Returns(2)), (" 2 ", Returns(2)),
        ("THREE", Returns(3)), (int, Returns(1)), ("list", Returns(1)),
        (Thing, Returns(1, Thing)), ("Thing", Returns(1, Thing)),
        (list[int], Returns(1)), ((int, str), Returns(2)), ([int, str, list], Returns(3)),
        ((Thing, int), Returns(2, Thing)),
    ],
)  # fmt: skip
def test_the_number_of_values_is_read_from_every_form(declared: Any, expected: Returns) -> None:
    assert declared_returns(f, declared, "f") == expected


@pytest.mark.parametrize("declared", [-1, True, 2.5, "NOWHERE", "", {"a": 1}])
def test_what_declares_no_number_of_values_is_refused(declared: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="here.*returns="):
        declared_returns(f, declared, "here")


def hint_pair() -> tuple[int, str]: ...
def hint_many() -> tuple[int, ...]: ...
def hint_none() -> None: ...
def hint_int() -> int: ...
def hint_thing() -> Thing: ...
def hint_unknown() -> OrderedDict[int, int]: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (hint_pair, Returns(2)), (hint_many, Returns(1)), (hint_none, Returns(0)), (hint_int, Returns(1)),
        (hint_thing, Returns(1, Thing)), (hint_unknown, Returns(1)),
    ],
)  # fmt: skip
def test_hints_kept_as_text_count_like_hints(function: Any, expected: Returns) -> None:
    assert isinstance(function.__annotations__["return"], str)
    assert declared_returns(function, None, "f") == expected


def returns_nothing(x):
    x.append(1)


def returns_bare(x):
    if x:
        return
    return None


def returns_pair(x):
    if x:
        return 1, 2
    return 3, 4


def returns_pair_or_one(x):
    if x:
        return 1, 2
    return 3


def returns_pair_or_none(x):
    if x:
        return None
    return 1, 2


def returns_starred(x):
    return 1, *x


def returns_inside_only(x):
    def inner():
        return 1, 2

    inner()


def yields(x):
    yield x


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (returns_nothing, 0), (returns_bare, 0), (returns_pair, 2), (returns_pair_or_one, 1), (returns_pair_or_none, 1),
        (returns_starred, 1), (returns_inside_only, 0), (yields, 1), (lambda: (1, 2), 1), (functools.partial(f, 1), 1),
    ],
)  # fmt: skip
def test_without_a_declaration_the_return_statements_are_counted(function: Any, count: int) -> None:
    assert declared_returns(function, None, "f").count == count


def test_what_a_wrapper_returns_is_not_taken_from_what_it_wraps() -> None:
    def timed(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args), 0.5

        return wrapper

    assert declared_returns(timed(returns_nothing), None, "f").count == 1
    assert declared_returns(timed(hint_none), None, "f").count == 1


def test_profile_returns_what_it_wraps() -> None:
    assert task()(profile(returns_pair)).returns.count == 2
    assert task()(profile(full_report=False)(returns_nothing)).returns.count == 0
