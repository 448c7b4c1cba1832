"""Values and exceptions whose own code raises or recurses end in an error that names the task, never in a hang."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

CLASSES = """
    import sys

    from runmem import task, wait_on


    def raising(name, error, base=object):
        def method(self, *args):
            raise error

        return type("Value", (base,), {"__getstate__": lambda self: {"a": 1}, name: method})


    class Recurses(Exception):
        def __getattribute__(self, name):
            return self.__getattribute__(name)

        def __str__(self):
            return "a" + str(self)


    class ExitsWhenAsked(Exception):
        def __getattribute__(self, name):
            raise SystemExit(4)


    class Text(str):
        def __len__(self):
            raise SystemExit(5)


    class Mine(Exception):
        def __init__(self, code, *, text):
            super().__init__(f"{code}: {text}")
            self.code = code


    @task(returns=1)
    def passed(value):
        return 1

"""

# What the task `make` does, and what the program must say.
RESULTS = {
    "reduce exits": ("return raising('__reduce__', SystemExit(3))()", "SystemExit: 3"),
    "reduce interrupts": ("return raising('__reduce__', KeyboardInterrupt())()", "KeyboardInterrupt"),
    "reduce ends a generator": ("return [raising('__reduce_ex__', GeneratorExit('g'))()]", "GeneratorExit: g"),
    "state has no memory": ("return raising('__getstate__', MemoryError('m'))()", "MemoryError: m"),
    "state cannot be set": ("return raising('__setstate__', SystemExit(4))()", "SystemExit: 4"),
    "state is refused": ("return {1: raising('__setstate__', BaseException('b'))()}", "BaseException: b"),
}  # fmt: skip

ERRORS = {
    "attributes recurse": ("raise Recurses(1)", "Recurses"),
    "attributes exit": ("raise ExitsWhenAsked(1)", "ExitsWhenAsked"),
    "message is no plain text": ("raise ValueError(raising('__str__', SystemExit(3))())", "ValueError"),
    "note is no plain text": (
        "error = ValueError(1); error.__notes__ = [Text('n')]; raise error", "ValueError",
    ),
    "metaclass": (
        "raise type(type)('Meta', (type,), {'__name__': property(lambda cls: sys.exit(6))})('Named', (Exception,), {})",
        "Named",
    ),
    "900 causes": (
        "error = None\n        for number in range(900):\n            later = ValueError(number)\n"
        "            later.__cause__, error = error, later\n        raise error",
        "ValueError",
    ),
    "group": ("raise ExceptionGroup('g', [Mine(1, text='t'), ValueError(2)])", "ExceptionGroup"),
}  # fmt: skip


def programs() -> str:
    """Return a program that makes every call and prints what came of it, one line each."""
    lines = [CLASSES]
    for number, body in enumerate([body for body, _ in [*RESULTS.values(), *ERRORS.values()]]):
        lines.append(f"\n    @task(returns=1)\n    def make{number}():\n        {body}\n")
    lines.append(
        """
    for number in range(COUNT):
        try:
            wait_on(globals()[f"make{number}"]())
            print(number, "no error")
        except BaseException as error:
            name = type.__dict__["__name__"].__get__(type(error))
            text = str(error) if name == "ResultError" else ""
            print(number, name, text.replace("\\n", " "))
    raised = [SystemExit(3), GeneratorExit(), BaseException("b"), MemoryError()]
    for number in range(4):
        try:
            wait_on(passed(raising("__reduce__", raised[number])()))
            print("argument", number, "no error")
        except BaseException as error:
            print("argument", number, type(error).__name__, error)
    try:
        wait_on(globals()["make%d" % (COUNT - 1)]())
    except* Mine as group:
        print("mine", [error.code for error in group.exceptions])
    except* ValueError as group:
        print("value", group.exceptions)
""".replace("COUNT", str(len(RESULTS) + len(ERRORS)))
    )
    return "".join(lines)


@pytest.fixture(scope="module")
def said(module_folder: Path, runmem: Any, write: Any) -> list[str]:
    write(module_folder, "app.py", programs())
    ran = runmem(module_folder, "app.py", timeout_s=90)
    assert ran.code == 0, ran.err
    return ran.out.splitlines()


def line(said: list[str], start: str) -> str:
    return next(text for text in said if text.startswith(start + " "))


@pytest.mark.parametrize("name", RESULTS)
def test_results_whose_class_raises_are_an_error_that_names_task_and_node(said: list[str], name: str) -> None:
    number = list(RESULTS).index(name)
    found = line(said, str(number))
    assert found.startswith(f"{number} ResultError ")
    assert f"make{number}" in found
    assert " node " in found
    assert RESULTS[name][1] in found


@pytest.mark.parametrize("name", ERRORS)
def test_errors_arrive_as_themselves_or_as_text(said: list[str], name: str) -> None:
    number = len(RESULTS) + list(ERRORS).index(name)
    assert line(said, str(number)).split()[1] in (ERRORS[name][1], "RemoteError")


@pytest.mark.parametrize("number", range(4))
def test_arguments_whose_class_raises_are_an_error_that_names_the_task(said: list[str], number: int) -> None:
    found = line(said, f"argument {number}")
    assert re.match(rf"argument {number} ArgumentError passed \(.*app\.py:\d+\): parameter 'value'", found)


def test_a_group_has_the_exceptions_of_the_program_in_it(said: list[str]) -> None:
    assert line(said, "mine") == "mine [1]"
    assert line(said, "value") == "value (ValueError(2),)"
