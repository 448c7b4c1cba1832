"""Programs that start processes of their own, or ask for results in an odd order, print what plain Python prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROCESSES = """
import multiprocessing
from runmem import task, wait_on

def square(value):
    return value * value

@task(returns=1)
def pooled(count):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sum(pool.map(square, range(count)))

@task(returns=1)
def increment(value):
    return value + 1

def in_a_child(value):
    return wait_on(increment(value))

print(wait_on(pooled(10)))
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(in_a_child, [1, 2, 3]))
"""

ORDER = """
from runmem import barrier, task, wait_on

@task(returns=1)
def increment(value):
    return value + 1

wait_on([increment(value) for value in range(500)])
results = [increment(value) for value in range(15000)]
barrier()
print(wait_on(results[0]), sum(wait_on(results[:1:-1] + [results[1]])))
"""

PATH = """
import sys
from runmem import task, wait_on

@task(returns=1)
def increment(value):
    return value + 1

print(wait_on(increment(1)), [folder for folder in sys.path if "dask" in folder and "packages" not in folder])
"""


@pytest.mark.parametrize("program", [PROCESSES, ORDER, PATH], ids=["processes", "order", "path"])
def test_it_prints_the_same(program, runmem, write, environment, tmp_path):
    file = write(tmp_path, "app.py", program)
    plain = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert plain.returncode == 0, plain.stderr
    ran = runmem(tmp_path, "--workers=2", "app.py")
    assert (ran.code, ran.out) == (0, plain.stdout), ran.err
