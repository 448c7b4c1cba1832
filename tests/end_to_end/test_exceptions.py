"""What a task raises reaches the program as it would under plain Python, whatever its class is like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
    import sys
    import threading
    from dataclasses import dataclass

    from runmem import profile, task, wait_on


    @dataclass(frozen=True)
    class BadPixel(Exception):
        x: int
        y: int


    class Slots(Exception):
        __slots__ = ("place",)

        def __init__(self, place):
            self.place = place


    class NothingCanBeSet(Exception):
        def __setattr__(self, name, value):
            raise TypeError(name)


    class NoText(Exception):
        def __str__(self):
            raise LookupError("no text")


    class TextOfItself(Exception):
        def __str__(self):
            return f"<{self}>"

        __repr__ = __str__


    class ExitsWhenPickled(Exception):
        def __reduce__(self):
            raise SystemExit(3)


    class Other(Exception):
        def __init__(self, code, *, text):
            super().__init__(f"{code}: {text}")
            self.code = code


    class Group(ExceptionGroup):
        def derive(self, errors):
            return Group(self.message, errors)


    class Stop(BaseException):
        pass


    def group():
        inner = Group("inner", [BadPixel(3, 4), Other(5, text="five")])
        inner.add_note("of the inner group")
        raise Group("outer", [inner, ValueError(6)]) from NoText(7)


    def chain():
        error = None
        for number in range(300):
            try:
                raise BadPixel(number, 0) from error
            except BadPixel as raised:
                error = raised
        raise error


    def holding():
        error = KeyError("lock")
        error.lock, error.code = threading.Lock(), 8
        raise error


    def raising(cls, *args):
        raise cls(*args)


    def other():
        raise Other(9, text="nine")


    check = task(returns=1)(raising)
    others = [task(returns=1)(function) for function in (group, chain, holding, other)]
    profiled = task(returns=1)(profile(full_report=False)(raising))
    CALLS = [
        lambda: check(BadPixel, 1, 2), lambda: check(Slots, 4), lambda: check(NothingCanBeSet, 5),
        lambda: check(NoText, 6), lambda: check(TextOfItself, 7), lambda: check(ExitsWhenPickled, 8),
        lambda: check(Stop, 9), *others, lambda: profiled(BadPixel, 10, 11),
    ]


    def described(error):
        try:
            text = str(error)
        except BaseException as refusal:
            text = type(refusal).__name__
        fields = {name: getattr(error, name) for name in ("x", "y", "place", "code") if hasattr(error, name)}
        causes = 0
        link = error
        while (link := link.__cause__) is not None:
            causes += 1
        members = [described(member) for member in getattr(error, "exceptions", ())]
        return type(error).__name__, text, len(error.args), fields, causes, members


    if len(sys.argv) > 1:
        wait_on(CALLS[int(sys.argv[1])]())
    for call in CALLS:
        try:
            wait_on(call())
        except BaseException as error:
            print(described(error))
    try:
        wait_on(others[0]())
    except* BadPixel as found:
        print("except*", described(found))
    except* ValueError:
        pass
    except* Other:
        pass
"""


@pytest.fixture(scope="module")
def program(module_folder: Path, write) -> Path:
    return write(module_folder, "odd_exceptions.py", PROGRAM)


def test_every_exception_is_caught_as_under_plain_python(
    module_folder: Path, program: Path, runmem, environment
) -> None:
    plain = subprocess.run(
        [sys.executable, program.name], cwd=module_folder, env=environment(COMPSS_PROFILING_FILE="profile.txt"),
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    ours = runmem(module_folder, "--workers=2", program.name, env=environment(COMPSS_PROFILING_FILE="profile.txt"))
    assert plain.stdout.count("\n") == 13
    assert ours.out == plain.stdout
    assert ours.code == 0, ours.err


@pytest.mark.parametrize(("number", "name"), [(0, "BadPixel: (1, 2)"), (2, "NothingCanBeSet: 5"), (3, "NoText: <")])
def test_an_uncaught_one_is_told_with_task_node_and_line(
    module_folder: Path, program: Path, runmem: Any, number: int, name: str
) -> None:
    done = runmem(module_folder, "--workers=1", "--no_summary", program.name, str(number))
    assert done.code == 1
    assert name in done.err
    assert "raised in task raising (call 1) on node " in done.err
    assert "in raising" in done.err
    assert "raise cls(*args)" in done.err
