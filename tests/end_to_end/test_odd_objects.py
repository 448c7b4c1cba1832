"""Objects whose methods raise, exit or recurse, as arguments, results and exceptions: a clear error, and no hang."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = """
import sys
from runmem import task, wait_on

def misbehave(how):
    if how == "recurses":
        return misbehave(how)
    raise {"exits": SystemExit(3), "is stopped": GeneratorExit(), "raises": BaseException("odd"),
           "has no memory": MemoryError()}[how]

class Odd:
    def __init__(self, method, how):
        self.method, self.how = method, how
    def __reduce__(self):
        if self.method == "reduce":
            misbehave(self.how)
        return Again(self.method), (self.method, self.how)
    def __repr__(self): misbehave(self.how)
    def __len__(self): misbehave(self.how)
    def __bool__(self): misbehave(self.how)
    def __eq__(self, other): misbehave(self.how)
    def __hash__(self): misbehave(self.how)
    def __sizeof__(self): misbehave(self.how)

class Again:
    def __init__(self, when): self.when = when
    def __call__(self, method, how):
        if method == "made again":
            misbehave(how)
        return Odd(method, how)

class OddError(Exception):
    def __init__(self, method, how):
        super().__init__(how)
        self.method, self.how = method, how
    def __str__(self): return misbehave(self.how) if self.method == "str" else self.how
    def __reduce__(self): return misbehave(self.how) if self.method == "reduce" else super().__reduce__()

@task(returns=1)
def give(method, how): return Odd(method, how)

@task(returns=1)
def take(odd): return "taken"

@task(returns=1)
def fail(method, how):
    raise OddError(method, how)

@task(returns=1)
def fail_by_many(how):
    error = ValueError(0)
    for number in range(1, 900):
        error, cause = ValueError(number), error
        error.__cause__ = cause
    raise error

@task(returns=1)
def fail_deep(how):
    error = ValueError(0)
    for number in range(900):
        error = ExceptionGroup("more", [error])
    raise error

@task(returns=1)
def nest(how):
    nested = []
    for _ in range(100_000):
        nested = [nested]
    return nested

@task(returns=1)
def short(number): return number

def tell(*names, make):
    try:
        result = make()
        print(*names, "gives", type(wait_on(result)).__name__)
    except BaseException as error:
        print(*names, type(error).__name__)
        text = "".join(getattr(error, "__notes__", []))
        if type(error).__name__ not in ("ArgumentError", "ResultError"):
            assert "raised in task" in text and "node" in text, text

wait_on([short(number) for number in range(400)])
for how in ("exits", "is stopped", "raises", "has no memory", "recurses"):
    for method in ("reduce", "made again", "nothing"):
        tell("result", method, how, make=lambda: give(method, how))
        tell("argument", method, how, make=lambda: take(Odd(method, how)))
    for method in ("reduce", "str"):
        tell("error", method, how, make=lambda: fail(method, how))
tell("900 causes", make=lambda: fail_by_many(1))
tell("900 groups", make=lambda: fail_deep(1))
tell("nested", make=lambda: nest(1))
print(sum(wait_on([short(number) for number in range(400)])))
"""

HOW = ("exits", "is stopped", "raises", "has no memory", "recurses")


def test_odd_objects_end_in_clear_errors(
    tmp_path: Path, runmem: Callable[..., Any], write: Callable[..., Path]
) -> None:
    write(tmp_path, "app.py", PROGRAM)
    ran = runmem(tmp_path, "--workers=2", "app.py", timeout_s=80)
    expected = []
    for how in HOW:
        expected += [
            f"result reduce {how} ResultError", f"argument reduce {how} ArgumentError",
            f"result made again {how} ResultError", f"argument made again {how} ArgumentError",
            f"result nothing {how} gives Odd", f"argument nothing {how} gives str",
            f"error reduce {how} OddError", f"error str {how} OddError",
        ]  # fmt: skip
    expected += ["900 causes ValueError", "900 groups ExceptionGroup", "nested ResultError", "79800"]
    assert ran.out.splitlines() == expected, ran.err
    assert ran.code == 0, ran.err
