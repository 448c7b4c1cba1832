"""The names of PyCOMPSs's decorators, their spellings, and what is said of keywords that they do not have."""

from __future__ import annotations

import importlib

import pytest

from runmem.errors import TaskDeclarationError, TaskWarning
from runmem.graph.current import set_current_program
from runmem.graph.directions import BY_NAME, FILE_OUT
from runmem.graph.program import Program
from runmem.graph.task import TaskFunction, task

NAMES = {
    "binary": ["binary", "Binary"],
    "compss": ["compss", "COMPSs"],
    "constraint": ["constraint", "Constraint"],
    "container": ["container", "Container"],
    "data_transformation": ["dt", "data_transformation", "DataTransformation", "dto", "DTObject", "FILE_TO_OBJECT"],
    "decaf": ["decaf", "Decaf"],
    "epilog": ["epilog", "Epilog"],
    "http": ["http", "HTTP"],
    "implement": ["implement", "Implement"],
    "IO": ["IO", "io"],
    "julia": ["julia", "Julia"],
    "local": ["local", "Local"],
    "mpi": ["mpi", "MPI", "Mpi"],
    "mpmd_mpi": ["mpmd_mpi", "MPMDMPI"],
    "multinode": ["multinode", "MultiNode", "Multinode"],
    "ompss": ["ompss", "OmpSs"],
    "opencl": ["opencl", "OpenCL"],
    "prolog": ["prolog", "Prolog"],
    "software": ["software", "Software"],
    "parameter": ["block_count", "block_length", "stride"],
}


def of(module, name=None):
    return getattr(importlib.import_module(f"runmem.pycompss.api.{module}"), name or module)


@pytest.mark.parametrize("module", NAMES)
def test_each_name_is_there(module):
    found = importlib.import_module(f"runmem.pycompss.api.{module}")
    assert set(NAMES[module]) <= set(found.__all__) <= set(vars(found))


@pytest.fixture
def program(submitter_class, tmp_path):
    set_current_program(Program(submitter_class(), lambda: tmp_path))
    yield
    set_current_program(None)


@pytest.fixture
def submitter_class():
    class NoSubmitter:
        """Takes no calls: only that a program runs matters."""

    return NoSubmitter


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("binary", {"binary": "x", "working_dir": ".", "args": "{{a}}", "fail_by_exit_value": True, "engine": "DOCKER",
                    "image": "y"}),
        ("binary", {"binary": "x", "workingDir": ".", "failByExitValue": "true"}),
        ("compss", {"runcompss": "r", "flags": "-d", "app_name": "x.py", "worker_in_master": "false",
                    "computing_nodes": "2", "fail_by_exit_value": False, "working_dir": "."}),
        ("compss", {"appName": "x.py", "workerInMaster": True, "computingNodes": 2}),
        ("container", {"engine": "DOCKER", "image": "x", "options": "-v a:b"}),
        ("decaf", {"df_script": "x", "df_executor": "y", "df_lib": "z", "runner": "mpirun", "working_dir": "."}),
        ("decaf", {"dfScript": "x", "dfExecutor": "y", "dfLib": "z", "mpiRunner": "mpirun", "computingNodes": 2}),
        ("http", {"service_name": "x", "request": "GET", "resource": "r", "payload": "{{a}}", "payload_type": "t",
                  "produces": "{}", "updates": ""}),
        ("implement", {"source_class": "x", "method": "y"}),
        ("implement", {"sourceClass": "x", "method": "y"}),
        ("julia", {"script": "x", "executor": "j", "args": "", "working_dir": ".", "computing_nodes": 1}),
        ("mpi", {"runner": "mpirun", "binary": "x", "flags": "-v", "processes": 2, "processes_per_node": 1,
                 "scale_by_cu": True, "working_dir": ".", "a_layout": {"block_count": 2}}),
        ("mpmd_mpi", {"runner": "mpirun", "programs": [{"binary": "x"}], "processes_per_node": 2}),
        ("multinode", {"computing_nodes": "1", "processes_per_node": 2}),
        ("ompss", {"binary": "x"}),
        ("opencl", {"kernel": "x", "working_dir": "."}),
        ("prolog", {"binary": "x", "args": "{{a}}", "fail_by_exit_value": False}),
        ("epilog", {"binary": "x", "params": "{{a}}"}),
        ("constraint", {"computing_units": "2", "processor_name": "x", "memory_type": "y", "wall_clock_limit": "5"}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_keywords_of_pycompss_are_taken_in_all_their_spellings(module, options, program):
    def function(a=1):
        pass

    declared = task(returns=1)(function)
    assert of(module)(**options)(declared) is declared


@pytest.mark.parametrize(
    ("module", "options", "what"),
    [
        (
            "binary",
            {"binary": "x", "workin_dir": "."},
            r"@binary on .*: workin_dir= has no effect; did you mean working",
        ),
        ("constraint", {"computing_unit": 2}, "computing_unit= has no effect; did you mean computing_units"),
        ("constraint", {"zzz": 2}, "zzz= has no effect$"),
        ("multinode", {"computing_nodes": 2}, "computing_nodes=2 has no effect: a call runs on one node"),
    ],
)
def test_a_keyword_without_effect_is_said(module, options, what, program):
    with pytest.warns(TaskWarning, match=what) as said:
        of(module)(**options)(task()(lambda: None))
    assert said[0].filename == __file__


@pytest.mark.parametrize(
    ("module", "options", "what"),
    [
        ("mpmd_mpi", {"runner": "x"}, "needs programs="), ("mpi", {"processes": 2}, 'needs runner="mpirun", say'),
        ("decaf", {"dfscript": "x"}, r"needs df_script= \(not dfscript=\)"),
        ("opencl", {}, "needs kernel="), ("julia", {}, "needs script="),
        ("compss", {}, "needs app_name="), ("container", {"engine": "DOCKER"}, "needs image="),
        ("http", {"service_name": "x"}, "needs request= and resource="), ("decaf", {}, "needs df_script="),
        ("implement", {}, "needs source_class= and method="), ("prolog", {}, "needs binary="),
    ],
)  # fmt: skip
def test_a_keyword_that_is_needed_is_named(module, options, what):
    with pytest.raises(TaskDeclarationError, match=f"@{module} on .*{what}"):
        of(module)(**options)(task()(lambda: None))


def test_a_task_stays_the_object_that_it_was():
    """So that methods, futures and workers find it."""

    def function(path):
        pass

    declared = task(returns=int, path=FILE_OUT)(function)
    of("implement")(source_class="x", method="y")(of("binary")(binary="echo")(declared))
    assert isinstance(declared, TaskFunction)
    assert declared.function is function
    assert declared.signature.use_of("path") is BY_NAME["FILE_OUT"]


def test_what_wraps_a_task_is_decorated_through():
    import functools

    declared = task(returns=1)(lambda: None)

    @functools.wraps(declared)
    def around(*args):
        return declared(*args)

    assert of("constraint")(computing_units=4)(around) is around
    assert declared.constraints.computing_units == 4
