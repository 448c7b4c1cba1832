from __future__ import annotations

import functools
import sys
import typing
from typing import TYPE_CHECKING, Annotated, Any, Optional, Unpack

import pytest

from runmem.errors import ArgumentError, TaskDeclarationError
from runmem.graph.directions import FILE_OUT, IN
from runmem.graph.returns import Returns, declared_returns
from runmem.graph.synchronise import wait_on
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
        (Thing, Returns(1, (Thing,))), ("Thing", Returns(1, (Thing,))),
        (list[int], Returns(1)), ((int, str), Returns(2)), ([int, str, list], Returns(3)),
        ((Thing, int), Returns(2, (Thing,))),
    ],
)  # fmt: skip
def test_the_number_of_values_is_read_from_every_form(declared: Any, expected: Returns) -> None:
    assert declared_returns(f, declared, "f") == expected


@pytest.mark.parametrize("declared", [-1, True, 2.5, "NO WHERE", "", {"a": 1}])
def test_what_declares_no_number_of_values_is_refused(declared: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="here.*returns="):
        declared_returns(f, declared, "here")


def hint_pair() -> tuple[int, str]: ...
def hint_many() -> tuple[int, ...]: ...
def hint_none() -> None: ...
def hint_int() -> int: ...
def hint_thing() -> Thing: ...
def hint_unknown() -> OrderedDict[int, int]: ...
def hint_written_pair() -> (int, str): ...
def hint_written_list() -> [Thing, int, int]: ...
def hint_written_one() -> (int,): ...
def hint_text_in_text() -> "tuple[int, str]": ...  # noqa: UP037
def hint_typing() -> typing.Tuple[int, str, str]: ...  # noqa: UP006 - this is what is tested
def hint_empty_tuple() -> tuple[()]: ...
def hint_optional() -> Optional[tuple[int, int]]: ...  # noqa: UP045 - this is what is tested
def hint_or_none() -> tuple[int, int] | None: ...
def hint_annotated() -> Annotated[tuple[int, int], "pixels"]: ...
def hint_unpacked() -> tuple[int, *tuple[str, ...]]: ...
def hint_unpack() -> tuple[int, Unpack[tuple[str, ...]]]: ...  # noqa: UP044
def hint_unknown_pair() -> tuple[OrderedDict[int, int], int]: ...
def hint_unknown_many() -> tuple[OrderedDict[int, int], ...]: ...
def hint_unknown_written() -> (OrderedDict, int, int): ...
def hint_unknown_optional() -> Optional[tuple[OrderedDict, int]]: ...  # noqa: UP045
def hint_list() -> list[int]: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (hint_pair, Returns(2)), (hint_many, Returns(1)), (hint_none, Returns(0)), (hint_int, Returns(1)),
        (hint_thing, Returns(1, (Thing,))), (hint_unknown, Returns(1)), (hint_written_pair, Returns(2)),
        (hint_written_list, Returns(3, (Thing,))), (hint_written_one, Returns(1)), (hint_text_in_text, Returns(2)),
        (hint_typing, Returns(3)), (hint_empty_tuple, Returns(1)), (hint_optional, Returns(1)),
        (hint_or_none, Returns(1)), (hint_annotated, Returns(2)), (hint_unpacked, Returns(1)),
        (hint_unpack, Returns(1)), (hint_unknown_pair, Returns(2)), (hint_unknown_many, Returns(1)),
        (hint_unknown_written, Returns(3)), (hint_unknown_optional, Returns(1)), (hint_list, Returns(1)),
    ],
)  # fmt: skip
def test_hints_kept_as_text_count_like_hints(function: Any, expected: Returns) -> None:
    assert isinstance(function.__annotations__["return"], str)
    assert declared_returns(function, None, "f") == expected


HINTS = {
    "(int, int)": 2, "[int, int]": 2, "'tuple[int, int]'": 2, "tuple[int, ...]": 1, "None": 0, "'None'": 0,
    "int | None": 1, "tuple[int, int, int]": 3, "'(int, int)'": 2, "list[tuple[int, int]]": 1,
}  # fmt: skip


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(("hint", "count"), HINTS.items())
def test_a_hint_counts_alike_as_it_is_and_as_text(hint: str, count: int, as_text: bool) -> None:
    names: dict[str, Any] = {}
    future = "from __future__ import annotations\n" if as_text else ""
    source = f"{future}def two(v) -> {hint}:\n    return v, v\n"
    exec(compile(source, "two.py", "exec", dont_inherit=True), names)
    assert declared_returns(names["two"], None, "two").count == count


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type statements are of Python 3.12")
def test_a_type_statement_counts_as_what_it_names() -> None:
    names: dict[str, Any] = {}
    exec("type Pair = tuple[int, str]\ntype Both = Pair\ndef two(v) -> Both: ...", names)
    assert declared_returns(names["two"], None, "two").count == 2


async def awaited_pair() -> tuple[int, int]: ...
async def awaited_none() -> None: ...
async def awaited_thing() -> Thing: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [(awaited_pair, Returns(1)), (awaited_none, Returns(1)), (awaited_thing, Returns(1, (Thing,)))],
)
def test_an_async_function_gives_one_thing_to_await(function: Any, expected: Returns) -> None:
    assert declared_returns(function, None, "f") == expected
    assert declared_returns(function, 2, "f") == Returns(2)


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


class Table:
    def __init__(self, rows):
        self.rows = rows

    @task(returns="value_of(self.rows)", target_direction=IN)
    def split(self):
        return [row for row in range(self.rows)]


@task(returns="{{count + 1}}")
def spread(count, more=0):
    return list(range(more, more + count + 1))


@task(returns=FILE_OUT)
def one_path():
    return "path"


def test_an_expression_over_the_arguments_says_how_many_values(submitter: Any) -> None:
    assert wait_on(Table(3).split()) == [0, 1, 2]
    assert wait_on(spread(1)) == [0, 1]
    assert wait_on(spread(count=2, more=5)) == [5, 6, 7]
    assert wait_on(one_path()) == "path"


def test_a_call_may_say_how_many_values_it_returns(submitter: Any) -> None:
    @task()
    def numbers(n):
        return list(range(n))

    assert wait_on(numbers(3, returns=3)) == [0, 1, 2]
    assert wait_on(numbers(3, returns="3")) == [0, 1, 2]
    assert wait_on(numbers(3)) == [0, 1, 2]
    with pytest.raises(TaskDeclarationError, match="call of task .*numbers: returns=-1 is negative"):
        numbers(3, returns=-1)


def test_what_a_call_says_is_left_out_without_a_program() -> None:
    assert spread(1, returns=2) == [0, 1]


def test_an_expression_that_gives_no_number_is_refused_at_the_call(submitter: Any) -> None:
    with pytest.raises(ArgumentError, match=r"call of task spread: returns='count \+ 1' cannot be used .*no future"):
        spread(spread(0))
    with pytest.raises(TaskDeclarationError, match="is not an expression"):
        task(returns="value_of(n +)")(lambda n: n)


@task(returns="BELOW")
def as_many_as_below():
    return list(range(BELOW))


@task(returns="NOWHERE")
def as_many_as_nowhere():
    return 1


BELOW = 2


def test_a_global_below_the_task_is_looked_up_at_the_call(submitter: Any) -> None:
    assert wait_on(as_many_as_below()) == [0, 1]
    with pytest.raises(ArgumentError, match="name 'NOWHERE' is not defined"):
        as_many_as_nowhere()


def test_each_declared_class_gives_its_task_methods(submitter: Any) -> None:
    @task(returns=(int, Table))
    def both(n):
        return n, Table(n)

    number, table = both(2)
    assert wait_on(table.split(returns=2)) == [0, 1]
    assert wait_on(number) == 2
