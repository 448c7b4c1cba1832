"""Tasks that are commands, and decorators around tasks, on workers: one program, one run."""

from __future__ import annotations

import sys

import pytest

PROGRAM = """
import os, sys
from pycompss.api.IO import IO
from pycompss.api.api import TaskGroup, compss_barrier, compss_open, compss_wait_on
from pycompss.api.binary import binary
from pycompss.api.constraint import constraint
from pycompss.api.data_transformation import dt
from pycompss.api.exceptions import COMPSsException
from pycompss.api.implement import implement
from pycompss.api.local import local
from pycompss.api.mpi import mpi
from pycompss.api.on_failure import on_failure
from pycompss.api.parameter import *
from pycompss.api.prolog import prolog
from pycompss.api.task import task
from library import sorted_file

N = 2

@constraint(computing_units="N", memory_size="0.1", app_software="sed")
@binary(binary="sed", working_dir=".")
@task(file=FILE_INOUT)
def replaced(flag, expression, file):
    pass

@binary(binary="grep")
@task(infile={Type: FILE_IN_STDIN}, result={Type: FILE_OUT_STDOUT})
def found(keyword, infile, result):
    pass

@binary(binary=sys.executable, args="-c 'data = bytearray({{size}}); exit(7)'", fail_by_exit_value=False)
@task(returns=int)
def large(size):
    pass

@binary(binary="sh", args="-c 'exit 3'")
@task(returns=int)
def failing():
    pass

@on_failure(management="IGNORE", returns=42)
@binary(binary="sh", args="-c 'echo written > {{out}}; exit 3'")
@task(out=FILE_OUT, returns=int)
def ignored(out):
    pass

@binary(binary="sh", args="-c 'sleep 1000 & sleep 1000'")
@task(time_out=1)
def endless():
    pass

@mpi(runner="./mpirun", processes="N * factor")
@task(returns=4)
def ranks(factor):
    return int(os.environ["PMI_RANK"]) + N

@prolog(binary="echo", args="before {{number}}")
@task(returns=1)
def numbered(number):
    return number

@implement(source_class="app", method="numbered")
@dt("items", lambda items: items + ["dt"])
@task(returns=1)
def transformed(items):
    return items

@IO()
@task(items=INOUT)
def appended(items):
    items.append(1)

@local
def doubled(items, number):
    return [item * number for item in items]

class Speaker:
    @binary(binary="echo", args="{{self.word}}")
    @task(returns=int, target_direction=IN)
    def speak(self):
        pass

if __name__ == "__main__":
    with open("text", "w") as file:
        file.write("Hi all\\nothers\\n")
    replaced("-i", "s/Hi/HELLO/", "text")
    found("HELLO", "text", "result")
    with compss_open("result") as file:
        print("found", file.read().strip())
    sorted_file("text", "sorted")
    with compss_open("sorted") as file:
        print("sorted", file.read().split())
    print("large", compss_wait_on(large(200_000_000)))
    print("ranks", compss_wait_on(ranks(2)))
    print("numbered", compss_wait_on(numbered(numbered(5))))
    print("transformed", compss_wait_on(transformed([0])))
    items = []
    appended(items)
    print("local", doubled(items, 2), items)
    appended(items)
    print("again", doubled(items, 3))
    speaker = Speaker()
    speaker.word = "spoken"
    print("speak", compss_wait_on(speaker.speak()))
    try:
        with TaskGroup("commands"):
            failing()
    except COMPSsException as error:
        print("group ended by", type(error).__name__)
    print("ignored", compss_wait_on(ignored("out")), compss_open("out").read().strip())
    for task_ in (failing, endless):
        try:
            task_()
            compss_barrier()
        except Exception as error:
            print(type(error).__name__, str(error).split(": ")[-1].splitlines()[0])
"""
LIBRARY = """
from pycompss.api.binary import Binary
from pycompss.api.parameter import *
from pycompss.api.task import task

@Binary(binary="sort", args="-r {{path}}")
@task(path=FILE_IN, out=FILE_OUT_STDOUT)
def sorted_file(path, out):
    pass
"""
MPIRUN = """#!{python}
import os, subprocess, sys
# Behaves as mpirun: -n N PROGRAM ARGUMENT...
for rank in range(int(sys.argv[2])):
    subprocess.run(sys.argv[3:], env={{**os.environ, "PMI_RANK": str(rank)}}, check=True)
"""


@pytest.fixture(scope="module")
def ran(module_folder, runmem, write):
    write(module_folder, "app.py", PROGRAM)
    write(module_folder, "library.py", LIBRARY)
    runner = module_folder / "mpirun"
    runner.write_text(MPIRUN.format(python=sys.executable))
    runner.chmod(0o755)
    return runmem(module_folder, "--workers=2", "--python_memory_profile", "app.py")


@pytest.mark.parametrize(
    "line",
    [
        "found HELLO all", "sorted ['others', 'HELLO', 'all']", "large 7", "ranks [2, 3, 4, 5]", "before 5",
        "numbered 5",
        "transformed [0, 'dt']", "local [2] [1]", "again [3, 3]", "spoken", "speak 0",
        "CommandFailedError sh -c exit 3 ended with exit value 3.",
        "group ended by CommandFailedError",
        "ignored 42 written",
    ],
)  # fmt: skip
def test_each_part_of_the_program_works(ran, line):
    assert line in ran.out.replace("/usr/bin/", "").replace("/bin/", "").splitlines(), ran.err


def test_the_memory_of_a_command_is_in_the_record_of_its_task(ran):
    peaks = {record["name"]: record["children_peak_bytes"] for record in ran.records if "children_peak_bytes" in record}
    assert peaks["large"] >= 200_000_000
    commands = {record["name"]: record["children_command"] for record in ran.records if "children_command" in record}
    assert commands["sorted_file"] == "sort"
    assert peaks["sorted_file"] < 100_000_000  # not that of the worker that started it
    assert all(record["peak_bytes"] > 0 for record in ran.records if record["name"] == "large")


def test_a_command_whose_time_is_up_is_ended(ran, processes_with):
    assert any(line.startswith("TaskTimeoutError") for line in ran.out.splitlines()), ran.out
    assert not any("sleep" in command for command in processes_with(ran.mark).values())
