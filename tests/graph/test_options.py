"""An option of `@task` has its effect, or is said to have none, or is refused."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from pathlib import Path
from types import GeneratorType
from typing import Any

import pytest

from runmem.errors import TaskDeclarationError, TaskWarning
from runmem.graph.directions import IN, INOUT
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task


def declared(**options: Any) -> Any:
    def f(x):
        return x

    return task(returns=1, **options)(f)


def test_options_that_only_place_a_task_are_taken(submitter: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = declared(
            priority=True, isReplicated=False, is_distributed=True, cache_returns=False, targetDirection=IN,
            computing_nodes=1, processesPerNode="1", tracingHook=True, time_out=None, on_failure=None, on_memory="fail",
            is_reduce=False,
            numba=False, numba_flags={},
        )  # fmt: skip
    assert wait_on(f(3)) == 3


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ({"isReplicated": True}, "once, on one worker"),
        ({"computing_nodes": "4"}, "one process on one node"),
        ({"processes_per_node": 2}, "one process on one node"),
        ({"is_reduce": True}, "no parameter is declared as a collection"),
        ({"chunkSize": "8"}, "no effect without is_reduce=True"),
        ({"numba_flags": {"cache": True}}, "no effect without numba="),
        ({"numbaSignature": "f8(f8)"}, "no effect without numba="),
    ],
    ids=str,
)
def test_an_option_without_effect_is_said_with_what_happens_instead(
    submitter: Any, option: dict[str, Any], instead: str
) -> None:
    with pytest.warns(TaskWarning) as told:
        f = declared(**option)
    (one,) = told
    name = f.name
    assert str(one.message).startswith(f"@task on {name}: ")
    assert instead in str(one.message)
    assert (one.filename, one.lineno) == (__file__, f.function.__code__.co_firstlineno)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wait_on(f(3)) == 3


def test_a_parameter_may_be_called_as_an_option_is(submitter: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @task(priority=INOUT, defaults=INOUT)
        def add(priority, defaults, x):
            priority.append(x)
            defaults[x] = x

    first: list[int] = []
    second: dict[int, int] = {}
    add(first, second, 3)
    assert wait_on(first, second) == [[3], {3: 3}]
    with pytest.raises(TaskDeclarationError, match="has no parameter 'priority'"):
        declared(priority=INOUT)


def test_what_was_declared_before_the_program_runs_is_said_at_the_first_call(start_program: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = declared(chunk_size=5)
        assert f(3) == 3
    start_program()
    with pytest.warns(TaskWarning, match="chunk_size=5 has no effect"):
        first = f(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wait_on([first, f(4)]) == [3, 4]


def test_an_imported_task_says_it_once_and_filters_silence_it(
    submitter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "library_of_tasks.py").write_text(
        "from runmem import task\n\n@task(returns=1, chunk_size=5)\ndef f(x):\n    return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "library_of_tasks", raising=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        module = importlib.import_module("library_of_tasks")
        assert wait_on([module.f(1), module.f(2)]) == [1, 2]
    (one,) = [each for each in told if each.category is TaskWarning]
    assert (one.filename, one.lineno) == (str(tmp_path / "library_of_tasks.py"), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=TaskWarning, module="library_of_tasks")
        importlib.reload(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TaskWarning):
            importlib.reload(module)


def yields(x):
    yield x
    yield 2 * x


async def yields_later(x):
    yield x


class Yields:
    async def __call__(self, x):
        yield x


class Holder:
    async def items(self):
        yield self


@pytest.mark.parametrize(
    "function", [yields_later, functools.partial(yields_later, 1), Yields(), Holder.items, staticmethod(yields_later)]
)
def test_an_asynchronous_generator_is_refused_with_the_remedy(function: Any) -> None:
    with pytest.raises(TaskDeclarationError, match=r"@task on .*: it gives its items by `yield`.*return \[item async"):
        task(returns=1)(function)


def gives_generator():
    return (number for number in range(3))


@task(returns=1)
def add_up(numbers):
    return sum(numbers), list(numbers)


def test_a_generator_comes_back_as_one(submitter: Any) -> None:
    items = wait_on(task(returns=1)(yields)(3))
    assert isinstance(items, GeneratorType)
    assert list(items) == [3, 6]
    assert list(wait_on(task(returns=1)(gives_generator)())) == [0, 1, 2]
    assert wait_on(task(returns=2)(yields)(3)) == [3, 6]


def test_a_generator_may_be_an_argument(submitter: Any) -> None:
    numbers = (number for number in range(4))
    assert wait_on(add_up(numbers)) == (6, [])
    assert list(numbers) == []


def test_an_asynchronous_generator_that_a_task_returns_is_an_error(submitter: Any) -> None:
    with pytest.raises(TypeError, match=r"returned an asynchronous generator.*`return \[item async"):
        wait_on(task(returns=1)(lambda: yields_later(1))())


@pytest.mark.parametrize(("value", "seconds"), [(5, 5.0), ("2.5", 2.5), (0, 0.0), (None, None)])
def test_the_time_of_a_call_is_read_under_both_spellings(value: Any, seconds: float | None) -> None:
    assert declared(time_out=value).isolation.limit_s == seconds
    assert declared(timeOut=value).isolation.limit_s == seconds


@pytest.mark.parametrize("value", [-1, "soon", True, [5], float("nan"), float("inf"), 1e300])
def test_a_time_that_is_none_is_refused_where_it_is_declared(value: Any) -> None:
    with pytest.raises(TaskDeclarationError, match=r"time_out=.* is not a number of seconds, such as 60"):
        declared(time_out=value)


def test_a_parameter_may_be_called_time_out(submitter: Any) -> None:
    @task(time_out=INOUT)
    def add(time_out, x):
        time_out.append(x)

    times: list[int] = []
    add(times, 3)
    assert (wait_on(times), add.isolation.limit_s) == ([3], None)
