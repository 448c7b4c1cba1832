"""`@mpi` and `@mpmd_mpi`: with a runner of our own that behaves as mpirun does, and a real one where it is there."""

from __future__ import annotations

import os
import shutil
from collections import deque
from importlib.util import find_spec
from pathlib import Path

import pytest

from runmem.commands.decorators import decaf, mpi, mpmd_mpi
from runmem.commands.needs import constraint
from runmem.errors import ArgumentError, CommandError, TaskDeclarationError
from runmem.graph.directions import COLLECTION_IN, FILE_OUT, INOUT
from runmem.graph.task import task

TO_OUT = {"type": FILE_OUT, "stream": "stdout"}
RUNNER = """
    import os, subprocess, sys
    # As mpirun does: -n N PROGRAM ARGUMENT... : -n N PROGRAM ..., each process with its rank in the environment.
    words, parts = sys.argv[1:], []
    flags = []
    while words and words[0] != "-n":
        flags.append(words.pop(0))
    while words:
        end = words.index(":") if ":" in words else len(words)
        parts += [words[2:end]] * int(words[1])
        words = words[end + 1:]
    codes = []
    for rank, command in enumerate(parts):
        env = {**os.environ, "OMPI_COMM_WORLD_RANK": str(rank), "FLAGS": " ".join(flags)}
        codes.append(subprocess.run(command, env=env).returncode)
    sys.exit(next((code for code in codes if code), 0))
"""
N = 2


@pytest.fixture
def mpirun(programs):
    return programs("mpirun", RUNNER)


def printed_by(decorated, *args):
    decorated(*args, out="printed.txt")
    return Path("printed.txt").read_text().splitlines()


def test_a_program_runs_in_so_many_processes(mpirun):
    @mpi(
        runner="mpirun",
        binary="sh",
        args="-c 'echo $OMPI_COMM_WORLD_RANK {{word}} $FLAGS'",
        processes=3,
        flags="--bind-to {{word}}",
    )
    @task(out=TO_OUT)
    def called(word, out):
        pass

    assert printed_by(called, "x") == [f"{rank} x --bind-to x" for rank in range(3)]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 1), ({"processes": "2"}, 2), ({"computing_nodes": 2}, 2), ({"computingNodes": "2"}, 2),
        ({"processes": "N"}, 2), ({"processes": "n + 1"}, 4), ({"processes": "$COUNT"}, 3),
        ({"processes": "${NONE}"}, 1),
        ({"processes": 2, "scale_by_cu": True}, 4), ({"processes": 2, "processes_per_node": 2}, 2),
    ],
)  # fmt: skip
def test_the_number_of_processes_has_many_forms(options, count, mpirun, monkeypatch):
    monkeypatch.setenv("COUNT", "3")

    @constraint(computing_units=2)
    @mpi(runner="mpirun", binary="echo", args="x", **options)
    @task(out=TO_OUT)
    def called(n, out):
        pass

    assert len(printed_by(called, 3)) == count


@pytest.mark.parametrize(("value", "what"), [(0, "less than 1"), ("a b", "neither a number")])
def test_a_number_of_processes_that_is_none_is_an_error(value, what, mpirun):
    with pytest.raises(TaskDeclarationError, match=what):

        @mpi(runner="mpirun", binary="echo", processes=value)
        @task()
        def called():
            pass


def test_an_expression_that_gives_no_number_is_an_error_of_the_call(mpirun):
    @mpi(runner="mpirun", binary="echo", processes="n")
    @task()
    def called(n):
        pass

    for value, what in (("text", "gives no number"), (0, "gives 0, where 1 is the least")):
        with pytest.raises(ArgumentError, match=what):
            called(value)


def test_the_exit_value_is_the_runner_s(mpirun):
    @mpi(runner="mpirun", binary="sh", args="-c 'exit {{code}}'", processes=2, fail_by_exit_value=False)
    @task(returns=int)
    def called(code):
        pass

    assert called(19) == 19


def test_several_programs_run_as_one(mpirun):
    @mpmd_mpi(runner="mpirun", programs=[
        dict(binary="sh", processes=2, args="-c 'echo $OMPI_COMM_WORLD_RANK {{first}}'"),
        dict(binary="sh", params="-c 'echo $OMPI_COMM_WORLD_RANK {{second}}'"),
        dict(binary="echo"),
    ])  # fmt: skip
    @task(out=TO_OUT)
    def called(first, second, out):
        pass

    assert printed_by(called, "a", "b") == ["0 a", "1 a", "2 b", ""]


@pytest.mark.parametrize("programs_", [[], ["date"], [{}]])
def test_a_program_without_a_name_is_an_error(programs_):
    with pytest.raises(TaskDeclarationError, match="programs="):

        @mpmd_mpi(runner="mpirun", programs=programs_)
        @task()
        def called():
            pass


def test_a_function_runs_in_each_process(mpirun):
    @mpi(runner="mpirun", processes=3)
    @task(returns=3, seen=INOUT)
    def called(seen, more):
        rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
        seen.append(rank)
        return rank * more

    seen = [7]
    assert called(seen, more=10) == [0, 10, 20]
    assert seen == [7, 0]  # what the first one did


def test_one_process_gives_its_value(mpirun):
    @mpi(runner="mpirun")
    @task(returns=1)
    async def called():
        return 5

    assert called() == 5


def test_a_layout_deals_out_a_collection(mpirun):
    @mpi(runner="mpirun", processes=2, Items_layout={"block_count": 4, "block_length": 2, "stride": 1})
    @task(Items=COLLECTION_IN, returns=2)
    def called(Items):
        return Items

    assert called([1, 2, 3, 4, 5]) == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert called(Items=[1, 2, 3, 4, 5]) == [[1, 2, 3, 4], [2, 3, 4, 5]]


def test_a_layout_with_other_keys_is_an_error():
    with pytest.raises(TaskDeclarationError, match="a layout has block_count, block_length and stride"):

        @mpi(runner="mpirun", processes=2, items_layout={"blocks": 4})
        @task(items=COLLECTION_IN)
        def called(items):
            pass


def test_what_a_function_raises_is_raised_with_its_rank(mpirun):
    @mpi(runner="mpirun", processes=2)
    @task(returns=1)
    def called():
        raise KeyError(int(os.environ["OMPI_COMM_WORLD_RANK"]))

    with pytest.raises(KeyError) as raised:
        called()
    assert raised.value.args == (0,)
    assert "raised in rank 0 of 2" in raised.value.__notes__[0]


def test_a_process_that_ends_without_a_result_is_an_error(mpirun):
    @mpi(runner="mpirun", processes=2)
    @task(returns=1)
    def called():
        os._exit(4)

    with pytest.raises(CommandError, match="ended with exit value 4 without the results of all processes"):
        called()


def test_what_cannot_be_changed_in_place_is_an_error(mpirun):
    @mpi(runner="mpirun", processes=1)
    @task(what=INOUT)
    def called(what):
        what.append(1)

    with pytest.raises(ArgumentError, match="'what' is written in another process, and a deque cannot be"):
        called(deque())


def test_a_runner_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/bin:/usr/bin" if shutil.which("mpirun", path="/bin:/usr/bin") is None else "/nowhere")

    @mpi(runner="mpirun", processes=2)
    @task(returns=1)
    def called():
        pass

    with pytest.raises(CommandError, match="'mpirun' was not found on PATH on this machine: install Open MPI or MPICH"):
        called()


def test_a_workflow_of_decaf_is_a_script_and_what_it_makes(folder):
    Path("make.py").write_text(
        "import sys\n"
        "hosts = open(sys.argv[4]).read().split()\n"
        "open('executor.sh', 'w').write('#!/bin/sh\\necho ran\\n')\n"
        "import os; os.chmod('executor.sh', 0o755)\n"
        "print(sys.argv[1:4], hosts, sys.argv[5:])\n"
    )

    @decaf(dfScript="make.py", computing_nodes=2, working_dir=".")
    @task(out=TO_OUT)
    def called(word, out):
        pass

    assert printed_by(called, "x y") == ["['-n', '2', '--hostfile'] ['localhost'] ['--args', 'x y']", "ran"]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun on PATH")
class TestRealRunner:
    @pytest.fixture(autouse=True)
    def _as_root(self, monkeypatch):
        """Let Open MPI run for root, as in a container."""
        monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
        monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")

    def test_a_program(self):
        @mpi(runner="mpirun", binary="echo", processes=3)
        @task(out=TO_OUT)
        def called(word, out):
            pass

        assert printed_by(called, "x") == ["x"] * 3

    @pytest.mark.skipif(find_spec("mpi4py") is None, reason="mpi4py is not installed")
    def test_a_function(self):
        @mpi(runner="mpirun", processes=3)
        @task(returns=3)
        def called():
            from mpi4py import MPI

            return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.allreduce(1)

        assert called() == [(0, 3), (1, 3), (2, 3)]
