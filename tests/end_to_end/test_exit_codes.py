from __future__ import annotations

import subprocess
import sys

import pytest

TASKS = """
import os, sys
from runmem import task, wait_on, barrier

@task(returns=1)
def square(x):
    return x * x

@task(returns=1)
def failing(x):
    raise LookupError(f"no {x}")

"""


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import sys; print('out'); sys.exit(3)", 3),
        ("import sys; print('out'); sys.exit('some text')", 1),
        ("print('out'); raise SystemExit", 0),
        ("import atexit; atexit.register(print, 'at the end'); print('out')", 0),
        ("import os; print('out', flush=True); os._exit(5)", 5),
        ("import os, signal; print('out', flush=True); os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("def f():\n    raise ValueError('boom')\nprint('out')\nf()", 1),
        ("print('out')\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError(1) from e", 1),
    ],
)
def test_a_program_without_tasks_ends_as_under_python(tmp_path, runmem, write, environment, source, code):
    write(tmp_path, "app.py", source)
    plain = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    ran = runmem(tmp_path, "app.py")
    assert (ran.code, ran.out, ran.err) == (plain.returncode, plain.stdout, plain.stderr)
    assert ran.code == code


def test_the_hook_of_the_program_gets_its_exception(tmp_path, runmem, write):
    write(tmp_path, "app.py", "import sys; sys.excepthook = lambda *e: print('hook', e[0].__name__); 1 / 0")
    ran = runmem(tmp_path, "app.py")
    assert (ran.code, ran.out) == (1, "hook ZeroDivisionError\n")


# Classes whose own code has no answer for whoever prints them or looks at how the program ended.
ODD_EXCEPTIONS = """
import sys

def exits(*_):
    sys.exit(7)

class Exits(Exception):
    __class__ = property(exits)
    __str__ = __bool__ = exits

class Recurses(Exception):
    __class__ = property(lambda self: self.__class__)
    __str__ = lambda self: str(self)

class SaysExit(Exception):
    __class__, code = SystemExit, 0

class Group(ExceptionGroup):
    derive = __bool__ = exits

class NoCode(SystemExit):
    code = property(exits)

def fail(*_):
    raise KeyError("in the hook")

print("out")
"""


@pytest.mark.parametrize(
    "end",
    [
        "raise Exits(1)", "raise Recurses(2) from Exits(1)", "raise SaysExit('no')", "raise NoCode('text')",
        "raise Group('many', [Exits(1), ValueError(2)])", "sys.excepthook = fail; raise ValueError(1)",
        "sys.excepthook = exits; raise ValueError(1)", "error = ValueError(1); error.__cause__ = error; raise error",
    ],
)  # fmt: skip
def test_an_odd_exception_ends_a_program_as_under_python(tmp_path, runmem, write, environment, end):
    write(tmp_path, "app.py", ODD_EXCEPTIONS + end)
    plain = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    ran = runmem(tmp_path, "app.py")
    assert (ran.code, ran.out, ran.err) == (plain.returncode, plain.stdout, plain.stderr)
    assert ran.provenance["exit_code"] == plain.returncode


@pytest.mark.parametrize("end", ["raise Exits(1)", "raising()"])
def test_the_end_of_a_run_is_complete_whatever_the_class_of_the_exception_does(tmp_path, runmem, write, end):
    task = "\n@task\ndef raising():\n    raise type('Odd', (Exception,), {'__str__': exits, '__bool__': exits})(1)\n"
    write(tmp_path, "app.py", TASKS + ODD_EXCEPTIONS + task + "print(wait_on(square(3)))\n" + end)
    ran = runmem(tmp_path, "--workers=1", "--python_memory_profile", "app.py")
    assert (ran.code, ran.out) == (1, "out\n9\n")
    assert "square" in {record["name"] for record in ran.records}
    assert (ran.provenance["exit_code"], ran.provenance["records_complete"]) == (1, True)
    assert "Exits: <exception str() failed>" in ran.err or "raised in task raising" in ran.err
    assert "square" in ran.err.partition("Max peak")[2]


def test_a_forked_child_that_comes_to_the_end_leaves_the_run_alone(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        TASKS + "child = os.fork()\nif child:\n    print('child', os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "    print(wait_on(square(3)))\nelse:\n    sys.exit(4)\n",
    )
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert (ran.code, ran.out) == (0, "child 4\n9\n")
    assert ran.provenance["exit_code"] == 0


def test_leaving_at_once_in_the_middle_of_tasks_gives_the_code_and_leaves_no_process(
    tmp_path, runmem, write, processes_with, eventually
):
    write(tmp_path, "app.py", TASKS + "print(wait_on(square(3)), flush=True)\nos._exit(5)")
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert (ran.code, ran.out) == (5, "9\n")
    assert ran.records == []
    eventually(lambda: not processes_with(ran.mark))  # the sampler waits a while for others to join


@pytest.fixture(scope="module")
def waited_for(module_folder, runmem, write):
    write(module_folder, "app.py", TASKS + "def go():\n    return wait_on(failing(3))\n\ngo()\n")
    return runmem(module_folder, "--workers=1", "app.py")


def test_the_exception_reaches_the_program_as_itself(waited_for):
    assert waited_for.code == 1
    assert "LookupError: no 3" in waited_for.err


def test_the_traceback_starts_at_the_program_and_shows_its_lines_only(waited_for):
    shown = waited_for.err.partition("Traceback (most recent call last):\n")[2].partition("raised in task")[0]
    files = [line.split('"')[1] for line in shown.splitlines() if line.startswith("  File ")]
    assert set(files) == {str(waited_for.folder / "app.py")}
    assert shown.splitlines()[0].endswith("in <module>")


def test_task_node_process_and_argument_types_are_named(waited_for):
    assert "raised in task failing (call 1) on node " in waited_for.err
    assert "arguments: x: int" in waited_for.err


@pytest.mark.parametrize("end", ["", "barrier()", "wait_on(square(2))"])
def test_a_failure_that_nobody_waited_for_is_told_at_the_end(tmp_path, runmem, write, end):
    write(tmp_path, "app.py", TASKS + f"failing(8)\nprint('went on')\n{end}\n")
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert (ran.code, ran.out) == (1, "went on\n")
    assert ran.err.count("raised in task failing (call 1)") == 1
    assert "LookupError: no 8" in ran.err


def test_failures_of_the_same_text_that_nobody_waited_for_are_told_once(tmp_path, runmem, write):
    write(tmp_path, "app.py", TASKS + "for _ in range(5): failing(8)\nfailing(9)\n")
    ran = runmem(tmp_path, "--workers=2", "--no_summary", "app.py")
    assert ran.code == 1
    assert ran.err.count("a task failed and the program did not wait for it") == 2
    assert ran.err.count("runmem: and 4 more of the same error") == ran.err.count("more of the same error") == 1


def test_a_failure_that_the_program_caught_is_no_failure_of_the_program(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        TASKS + "try:\n    wait_on(failing(8))\nexcept LookupError as error:\n    print('caught', error)\n",
    )
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert (ran.code, ran.out) == (0, "caught no 8\n")
    assert "Traceback" not in ran.err


WAITING = (
    TASKS
    + """
import time
from pathlib import Path

@task()
def writes(number):
    Path(f'started{number}').touch()
    while not Path('go').exists():
        time.sleep(0.01)
    Path(f'written{number}').touch()

def begin():
    for number in range(4):
        writes(number)
    while not list(Path().glob('started*')):
        time.sleep(0.01)
"""
)


@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(256)", 0)])
def test_a_program_that_ends_well_has_its_tasks_completed(tmp_path, runmem, write, end, code):
    write(tmp_path, "app.py", WAITING + f"begin()\nPath('go').touch()\n{end}\n")
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert ran.code == code
    assert len(list(tmp_path.glob("written*"))) == 4


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("1 / 0", 1)])
def test_a_program_that_fails_has_its_tasks_given_up(tmp_path, runmem, write, end, code):
    write(tmp_path, "app.py", WAITING + f"begin()\n{end}\n")
    ran = runmem(tmp_path, "--workers=1", "app.py")  # else it would never end
    assert ran.code == code
    assert not list(tmp_path.glob("written*"))
    assert ran.provenance["exit_code"] == code


@pytest.mark.parametrize(("end", "written"), [("sys.exit()", 4), ("sys.exit(3)", 0)])
def test_an_exit_from_a_session_completes_its_tasks_if_it_means_success(tmp_path, write, environment, end, written):
    within = "".join(f"    {line}\n" for line in ["begin()", f"{bool(written)} and Path('go').touch()", end])
    write(tmp_path, "app.py", WAITING + f"import runmem\nwith runmem.session(workers=1):\n{within}")
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, env=environment(), timeout=60)
    assert done.returncode == (0 if written else 3)
    assert len(list(tmp_path.glob("written*"))) == written
