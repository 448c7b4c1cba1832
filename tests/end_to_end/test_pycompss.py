"""A PyCOMPSs program runs as it is: on the master and on the workers, in the program and in what it imports."""

from __future__ import annotations

import pytest

PROGRAM = """
import sys
from pycompss.api.task import task
from pycompss.api.parameter import *
from pycompss.api.api import compss_wait_on, compss_barrier, compss_open, compss_delete_object, compss_wait_on_file
from pycompss.functions.profile import profile
from library import doubled, seen_from_a_module

@task(returns=1)
def seen_from_the_program():
    import pycompss.api.task, runmem
    return pycompss.api.task.task is runmem.task

@task(path=FILE_OUT)
def written(path):
    with open(path, "w") as file:
        file.write("from a task")

@task(numbers=COLLECTION_IN, returns=int)
def total(numbers):
    return sum(numbers)

@task(text={Type: FILE, Direction: INOUT})
def lengthened(text):
    with open(text, "a") as file:
        file.write(", twice")

@task(items=INOUT)
def appended(items):
    items.append(4)

@task(returns=1)
@profile(full_report=False)
def profiled(x):
    return x

if __name__ == "__main__":
    print("program", compss_wait_on(seen_from_the_program()))
    print("module", compss_wait_on(seen_from_a_module()))
    print("total", compss_wait_on(total([doubled(1), doubled(2), 3])))
    written("out.txt")
    lengthened("out.txt")
    with compss_open("out.txt") as file:
        print("file", file.read())
    items = [1]
    appended(items)
    print("items", compss_wait_on(items))
    print("deleted", compss_delete_object(items))
    compss_barrier()
    print("profiled", compss_wait_on(profiled(5)))
"""
LIBRARY = """
from pycompss.api.task import task

@task(returns=1)
def doubled(x):
    return 2 * x

@task(returns=1)
def seen_from_a_module():
    from pycompss.functions.profile import profile
    import runmem
    return profile is runmem.profile
"""


@pytest.fixture(scope="module")
def ran(module_folder, runmem, write):
    write(module_folder, "app.py", PROGRAM)
    write(module_folder, "library.py", LIBRARY)
    return runmem(module_folder, "--workers=2", "--log_level=debug", "app.py")


@pytest.mark.parametrize(
    "line",
    ["program True", "module True", "total 9", "file from a task, twice", "items [1, 4]", "deleted True", "profiled 5"],
)
def test_each_part_of_the_program_works(ran, line):
    assert ran.code == 0, ran.err
    assert line in ran.out.splitlines()


def test_the_worker_s_report_is_shown(ran):
    assert any(
        line.startswith(f"{ran.folder}/app.py profiled ") and line.endswith(" MiB") for line in ran.out.splitlines()
    )


def test_the_real_pycompss_is_let_alone_where_it_is_installed(tmp_path, runmem, write, environment):
    write(tmp_path, "site/pycompss/__init__.py", "REAL = 'the real one'")
    write(tmp_path, "app.py", "import pycompss; print(pycompss.REAL)")
    env = environment()
    env["PYTHONPATH"] += f":{tmp_path / 'site'}"
    ran = runmem(tmp_path, "app.py", env=env)
    assert (ran.code, ran.out) == (0, "the real one\n")


def test_a_part_of_pycompss_that_is_not_offered_is_named(tmp_path, runmem, write):
    write(tmp_path, "app.py", "from pycompss.matlib import algebra")
    ran = runmem(tmp_path, "app.py")
    assert ran.code == 1
    assert "pycompss.matlib is not offered by runmem" in ran.err
    assert "runmem/pycompss" not in ran.err.partition("Traceback")[2].partition("ModuleNotFoundError")[0]
