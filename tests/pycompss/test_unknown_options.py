"""A name that `@task` does not know: a warning in programs that import pycompss, an error in others."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

import pytest

from runmem import session, wait_on
from runmem.errors import ArgumentError, TaskDeclarationError, TaskWarning
from runmem.graph.directions import FILE_IN, INOUT
from runmem.graph.task import task


def declared(**options: Any) -> Any:
    def doubled(value: int, path: str = "") -> int:
        return 2 * value

    return task(**options)(doubled)


MISTAKES = [
    ({"pirority": True}, "pirority=True", "did you mean priority?"),
    ({"Returns": 1}, "Returns=1", "did you mean returns?"),
    ({"file": FILE_IN}, "file=FILE_IN", "the parameters are value, path"),
    ({"paht": FILE_IN}, "paht=FILE_IN", "did you mean path?"),
]


@pytest.mark.parametrize(("options", "written", "hint"), MISTAKES, ids=lambda each: str(each))
def test_it_is_an_error_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], written: str, hint: str
) -> None:
    monkeypatch.delitem(sys.modules, "pycompss", raising=False)
    with pytest.raises(TaskDeclarationError) as raised:
        declared(**options)
    assert hint in str(raised.value)


@pytest.mark.parametrize(("options", "written", "hint"), MISTAKES, ids=lambda each: str(each))
def test_it_is_a_warning_in_a_program_that_imports_pycompss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, options: dict[str, Any], written: str, hint: str
) -> None:
    monkeypatch.setitem(sys.modules, "pycompss", ModuleType("pycompss"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function = declared(**options)
        assert function(4) == 8
    monkeypatch.chdir(tmp_path)
    with session(sequential=True, summary=False), pytest.warns(TaskWarning) as found:
        assert wait_on(function(4)) == 8
    (one,) = found
    assert f"{written} is ignored" in str(one.message)
    assert str(one.message).rstrip(".").endswith(hint)
    assert (one.filename, one.lineno) == (__file__, function.function.__code__.co_firstlineno)


def test_a_function_that_takes_any_name_knows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycompss", ModuleType("pycompss"))
    function = task(returns=1, anything=FILE_IN)(lambda **names: names)
    assert function.signature.use_of("anything") is FILE_IN


@task(number=INOUT, both=INOUT, returns=1)
def changes(number, both):
    both.append(number)
    return len(both)


def test_a_number_as_inout_is_a_warning_in_a_program_that_imports_pycompss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pycompss", ModuleType("pycompss"))
    monkeypatch.chdir(tmp_path)
    both: list[int] = []
    with session(sequential=True, summary=False):
        with pytest.warns(
            TaskWarning, match="'number' is declared INOUT, but a task cannot change a value of"
        ) as found:
            counts = [changes(number, both) for number in (4, 5)]
        assert wait_on((counts, both)) == ([1, 2], [4, 5])
    assert len({str(each.message) for each in found}) == 1  # one text for all values, which Python shows once
    assert (found[0].filename, found[0].lineno) == (__file__, changes.function.__code__.co_firstlineno)


def test_a_number_as_inout_is_an_error_in_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delitem(sys.modules, "pycompss", raising=False)
    monkeypatch.chdir(tmp_path)
    with session(sequential=True, summary=False), pytest.raises(ArgumentError, match="a task cannot change 4"):
        changes(4, [])
