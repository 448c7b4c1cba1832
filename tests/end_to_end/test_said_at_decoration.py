"""What a task cannot do as it seems to is said where it is declared; the rest works with and without runmem."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHANGES = """
    import warnings
    import library
    from runmem import task, wait_on
    from runmem.errors import TaskWarning

    total = 0
    seen = []


    @task(returns=1)
    def add(amount):
        global total
        total += amount
        seen.append(amount)
        return amount


    warnings.filterwarnings("ignore", category=TaskWarning)


    @task(returns=1)
    def silent(amount):
        global total
        total -= amount
        return amount


    print(wait_on([add(1), add(2), silent(3), library.remember(4), library.remember(5)]), total, seen)
"""
LIBRARY = """
    from runmem import task

    memory = {}

    @task(returns=1)
    def remember(x):
        memory[x] = x
        return memory[x]
"""
ASYNC = """
    import asyncio
    from runmem import task, wait_on


    @task(returns=1)
    async def plus_one(x):
        await asyncio.sleep(0.01)
        return x + 1


    @task(returns=1)
    async def squares(numbers):
        return [await each for each in [square(number) for number in numbers]]


    async def square(x):
        return x * x


    @task(returns=1)
    async def fails(x):
        await asyncio.sleep(0)
        raise LookupError(x)


    class Telescope:
        def __init__(self, name):
            self.name = name

        @task(returns=1, target_direction="IN")
        async def point(self, at):
            await asyncio.sleep(0)
            return f"{self.name} at {at}"


    async def main():
        print(await plus_one(1), await asyncio.gather(plus_one(2), plus_one(3)))
        try:
            await fails("awaited")
        except LookupError as error:
            print("caught", error)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(waits(number)) for number in range(3)]
        print([each.result() for each in tasks], wait_on(plus_one(7)))


    async def waits(x):
        return await plus_one(await plus_one(x))


    asyncio.run(main())
    print(wait_on([plus_one(1), {"squares": squares([2, 3])}, (Telescope("LSST").point(3),)]))
    try:
        wait_on(fails("waited for"))
    except LookupError as error:
        print("caught", error)
"""
PAIRS = """
    from __future__ import annotations
    from typing import TYPE_CHECKING
    from pycompss.api.task import task
    from pycompss.api.api import compss_wait_on

    if TYPE_CHECKING:
        from numpy import ndarray


    @task()
    def two(v) -> (int, int):
        return v, v + 1


    @task()
    def three(v) -> [int, str, int]:
        return v, "a", v


    @task()
    def unknown(v) -> tuple[ndarray, int]:
        return v, 2


    @task()
    def one(v) -> tuple[int, ...]:
        return v, v


    a, b = two(1)
    c, d, e = three(5)
    f, g = unknown(6)
    print(compss_wait_on([a, b, c, d, e, f, g, one(7)]))
"""
STENCIL = """
    import numpy as np
    from pycompss.api.api import compss_wait_on
    from pycompss.api.task import task


    @task(returns=1, numba="stencil")
    def neighbours(a):
        return a[-1] + a[1]


    @task(returns=1, numba="vectorize", numba_signature=["float64(float64, float64)"])
    def larger(x, y):
        return x if x > y else y


    @task(returns=1, numba="guvectorize", numba_signature=["(i8[:], i8, i8[:])"], numba_declaration="(n),()->(n)")
    def shifted(x, y, res):
        for i in range(len(x)):
            res[i] = x[i] + y


    @task(returns=1, numba={"cache": True, "nopython": True})
    def summed(x):
        total = 0
        for value in x:
            total += value
        return total


    line = np.arange(5.0)
    near = neighbours(line)
    print(compss_wait_on([near, larger(line, near), shifted(np.arange(3), 2), summed(near), neighbours(near)]))
"""
SIGNAL = """
    import signal
    from runmem import task, wait_on

    @task(returns=1)
    def handles():
        signal.signal(signal.SIGUSR1, print)

    wait_on(handles())
"""


def both_ways(folder: Path, runmem: Any, environment: Any, name: str) -> tuple[str, Any]:
    plain = subprocess.run(
        [sys.executable, name], cwd=folder, env=environment(), capture_output=True, text=True, timeout=90
    )
    assert plain.returncode == 0, plain.stderr
    return plain.stdout, runmem(folder, "--workers=2", "--no_summary", name)


def test_a_task_that_changes_a_global_is_said_once_with_its_line(tmp_path: Path, runmem: Any, write: Any) -> None:
    write(tmp_path, "library.py", LIBRARY)
    program = write(tmp_path, "app.py", CHANGES)
    done = runmem(tmp_path, "--workers=2", "--no_summary", "app.py")
    assert done.code == 0
    assert done.out == "[1, 2, 3, 4, 5] 0 []\n"
    told = [line for line in done.err.splitlines() if "TaskWarning" in line]
    lines = program.read_text().splitlines()
    where = [f"{program}:{lines.index(text) + 1}: " for text in ("    total += amount", "    seen.append(amount)")]
    assert [line.partition("TaskWarning")[0] for line in told] == [f"{tmp_path / 'library.py'}:8: ", *where]
    assert "task remember changes in place the global 'memory'" in told[0]
    assert "task add assigns to the global 'total'" in told[1]


def test_the_same_async_program_runs_with_and_without_runmem(
    tmp_path: Path, runmem: Any, write: Any, environment: Any
) -> None:
    write(tmp_path, "app.py", ASYNC)
    plain, ours = both_ways(tmp_path, runmem, environment, "app.py")
    assert plain.splitlines() == [
        "2 [3, 4]", "caught awaited", "[2, 3, 4] 8", "[2, {'squares': [4, 9]}, ('LSST at 3',)]", "caught waited for",
    ]  # fmt: skip
    assert (ours.out, ours.code) == (plain, 0)
    assert "never awaited" not in ours.err


def test_hints_count_values(tmp_path: Path, runmem: Any, write: Any) -> None:
    write(tmp_path, "app.py", PAIRS)
    done = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert (done.out, done.code) == ("[1, 2, 5, 'a', 5, 6, 2, (7, 7)]\n", 0), done.err


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_what_numba_makes_of_a_task_runs_on_the_workers(tmp_path: Path, runmem: Any, write: Any) -> None:
    write(tmp_path, "app.py", STENCIL)
    done = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    arrays = "array([0., 2., 4., 6., 0.]), array([0., 2., 4., 6., 4.]), array([2, 3, 4])"
    assert text == f"[{arrays}, 12.0, array([0., 4., 8., 4., 0.])]"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("@task(returns=1)\nasync def f(x):\n    yield x\n", "@task on f: it gives its items by `yield`"),
        ("@task(returns=1, numba='cuda')\ndef f(x):\n    return x\n", "numba='cuda'; write True, False"),
    ],
)
def test_what_no_task_can_be_is_refused_at_decoration(
    tmp_path: Path, runmem: Any, write: Any, source: str, told: str
) -> None:
    write(tmp_path, "app.py", f"from runmem import task\n\n{source}\nprint('not reached')\n")
    done = runmem(tmp_path, "--workers=1", "app.py")
    assert (done.out, done.code) == ("", 1)
    assert told in done.err
    assert 'app.py", line 3, in <module>' in done.err


def test_a_signal_handler_set_in_a_task_is_told_the_remedy(tmp_path: Path, runmem: Any, write: Any) -> None:
    write(tmp_path, "app.py", SIGNAL)
    done = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert done.code == 1
    assert "signal only works in main thread" in done.err
    assert "task handles runs in a thread of the worker" in done.err
    assert "around wait_on" in done.err
