"""`@task(numba=...)` compiles the function, or refuses at decoration."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runmem.errors import TaskDeclarationError
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task

SOURCE = Path(__file__).parents[2] / "src"
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def add(x, y=10):
    return x + y


def smooth(a):
    return 0.25 * (a[0, 1] + a[1, 0] + a[0, -1] + a[-1, 0])


def differences(a):
    return a[1] - a[0]


def weighted(a, w):
    return a[0] * w[0] + a[1] * w[1]


def shifted(x, y, res):
    for i in range(x.shape[0]):
        res[i] = x[i] + y


def low_and_high(x, low, high):
    low[0] = x.min()
    high[0] = x.max()


def halved(x):
    return x / 2


ROWS = np.arange(25.0).reshape(5, 5)
MIDDLE = np.zeros((5, 5))
MIDDLE[1:-1, 1:-1] = ROWS[1:-1, 1:-1]

CASES: dict[str, tuple[Any, dict[str, Any], Any, Any]] = {
    "True": (add, {"numba": True}, lambda f: f(2), 12),
    "keywords": (add, {"numba": True}, lambda f: f(y=1, x=2), 3),
    "a dictionary": (add, {"numba": {"nogil": True}}, lambda f: f(2, y=3), 5),
    "jit with a signature": (add, {"numba": "jit", "numba_signature": "i8(i8,i8)"}, lambda f: f(2.5, 1), 3),
    "njit": (add, {"numba": "njit", "numba_flags": {"fastmath": True}}, lambda f: f(2.0, 3.0), 5.0),
    "vectorize": (add, {"numba": "vectorize"}, lambda f: f(ROWS), ROWS + 10),
    "vectorize with a signature": (
        add, {"numba": "vectorize", "numba_signature": ["float32(float32, float32)"], "numbaFlags": {"target": "cpu"}},
        lambda f: f(np.float32([1, 2]), y=np.float32([3, 4])), np.float32([4, 6]),
    ),
    "vectorize with a text": (
        add, {"numba": "vectorize", "numba_signature": "f8(f8, f8)"}, lambda f: f([1, 2], 1), np.array([2.0, 3.0]),
    ),
    "guvectorize": (
        shifted,
        {"numba": "guvectorize", "numba_signature": ["(i8[:], i8, i8[:])"], "numba_declaration": "(n),()->(n)"},
        lambda f: f(np.arange(4), 2), np.arange(4) + 2,
    ),
    "guvectorize, keywords": (
        shifted, {"numba": "guvectorize", "numba_signature": "(i8[:], i8, i8[:])", "numba_declaration": "(n),()->(n)"},
        lambda f: f(y=2, x=np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3) + 2,
    ),
    "guvectorize, two outputs": (
        low_and_high,
        {"numba": "guvectorize", "numba_signature": "(f8[:], f8[:], f8[:])", "numba_declaration": "(n)->(),()"},
        lambda f: f(ROWS), [ROWS.min(axis=1), ROWS.max(axis=1)],
    ),
    "stencil": (smooth, {"numba": "stencil"}, lambda f: f(ROWS), MIDDLE),
    "stencil, by name": (smooth, {"numba": "stencil"}, lambda f: f(a=ROWS), MIDDLE),
    "stencil, flags": (
        differences, {"numba": "stencil", "numba_flags": {"cval": 7.0}}, lambda f: f(np.array([1.0, 4.0, 9.0])),
        np.array([3.0, 5.0, 7.0]),
    ),
    "stencil, two parameters": (
        weighted, {"numba": "stencil", "numba_flags": {"standard_indexing": ("w",)}},
        lambda f: f(np.array([1.0, 4.0, 9.0]), np.array([2.0, 1.0])), np.array([6.0, 17.0, 0.0]),
    ),
    "cfunc": (halved, {"numba": "cfunc", "numba_signature": "f8(f8)"}, lambda f: f(5), 2.5),
    "cfunc, by name": (halved, {"numba": "cfunc", "numba_signature": ["f8(f8)"]}, lambda f: f(x=5), 2.5),
}  # fmt: skip


@needs_numba
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_compiled_task_gives_what_numba_makes_of_it(start_program: Any, case: Any) -> None:
    function, options, call, expected = case
    compiled = task(**options)(function)
    plain = call(compiled)
    start_program()
    ours = wait_on(call(compiled))
    for value in (plain, ours):
        assert np.array_equal(value, expected)
        assert np.asarray(value).dtype == np.asarray(plain).dtype


@needs_numba
def test_a_task_is_compiled_once(submitter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    made: list[Any] = []
    stencil = numba.stencil
    monkeypatch.setattr(numba, "stencil", lambda *given, **flags: (made.append(given), stencil(*given, **flags))[1])
    compiled = task(returns=1, numba="stencil")(smooth)
    wait_on(compiled(ROWS))
    assert len(made) == 1
    wait_on([compiled(ROWS), compiled(ROWS + 1)])
    assert len(made) == 1


@needs_numba
def test_a_function_that_numba_has_compiled_is_a_task(submitter: Any) -> None:
    import numba

    assert wait_on(task(returns=1)(numba.njit(add))(2, y=3)) == 5
    assert wait_on(task()(numba.jit(nopython=True)(add))(2)) == 12


@needs_numba
def test_what_numba_cannot_compile_fails_the_call(submitter: Any) -> None:
    def asks(x):
        return __import__(x)

    with pytest.raises(Exception, match=r"(?i)__import__|untyped global|Use of unsupported"):
        wait_on(task(returns=1, numba=True)(asks)("os"))


@needs_numba
def test_what_numba_has_no_more_is_refused() -> None:
    import numba

    if hasattr(numba, "generated_jit"):
        pytest.skip("this numba has it")
    with pytest.raises(TaskDeclarationError, match=r"has no generated_jit any more; use numba='jit'"):
        task(returns=1, numba="generated_jit")(add)


async def later(x):
    return x


class Adder:
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (add, {"numba": "cuda"}, r"numba='cuda'; write True, False, .*'jit', 'njit', .*'stencil', 'cfunc'"),
        (add, {"numba": 3}, r"numba=3; write"),
        (add, {"numba": "jit", "numba_flags": ["cache"]}, r"numba_flags=\['cache'\] is not a dictionary"),
        (add, {"numba": "cfunc"}, r"numba='cfunc' needs numba_signature too"),
        (shifted, {"numba": "guvectorize"}, r"needs numba_signature and numba_declaration too"),
        (shifted, {"numba": "guvectorize", "numba_signature": "(i8[:])"}, r"needs numba_declaration too"),
        (later, {"numba": True}, r"cannot compile an `async def`"),
        (Adder(), {"numba": "stencil"}, r"put @task directly above `def`"),
    ],
)
def test_what_cannot_be_asked_of_numba_is_refused_at_decoration(function: Any, options: Any, told: str) -> None:
    with pytest.raises(TaskDeclarationError, match=told):
        task(returns=1, **options)(function)


PROGRAM = """
    import sys
    import warnings


    class NotFound:  # as if it were not installed
        def find_spec(self, name, path=None, target=None):
            if name == "numba":
                raise ModuleNotFoundError("No module named 'numba'", name="numba")


    sys.meta_path.insert(0, NotFound())
    from runmem import task
    from runmem.errors import TaskDeclarationError
    from runmem.graph.current import set_current_program
    from runmem.graph.program import Program

    set_current_program(Program(None, None))
    for mode in ("stencil", "vectorize", "cfunc", "guvectorize", "generated_jit"):
        try:
            task(returns=1, numba=mode, numba_signature="f8(f8)", numba_declaration="()->()")(lambda a: a)
        except TaskDeclarationError as error:
            print(mode, "numba is not installed here: install it" in str(error))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for mode in (True, "jit", "njit", {"nopython": True}):
            fast = task(returns=1, numba=mode)(lambda a: a + 1)
    print(len(told), all("runs as it is, uncompiled" in str(each.message) for each in told))
    set_current_program(None)
    print(fast(1))
"""


def test_without_numba_what_would_differ_is_refused_and_what_would_be_slow_is_said(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE), "PATH": ""},
    )  # fmt: skip
    assert done.stderr == ""
    modes = ["stencil", "vectorize", "cfunc", "guvectorize", "generated_jit"]
    assert done.stdout.splitlines() == [f"{mode} True" for mode in modes] + ["4 True", "2"]
