"""A program begins under runmem as under Python: by its file, its folder or its name, in the environment asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

FACTS = '''"""What this program finds of itself."""
import sys
for name in sorted({*globals()} - {"__loader__", "__spec__", "name", "sys"}):
    print(name, repr(globals().get(name)))
print(type(__loader__).__name__, __loader__.name, __loader__.path)
spec = globals()["__spec__"]
print(spec and (spec.name, spec.origin, spec.parent, spec.loader is __loader__, spec.cached))
print(sys.argv, sys.path, sys.modules["__main__"].__dict__ is globals(), (lambda: 0).__code__.co_filename)
try:
    from . import beside
    print(beside.__name__, beside.hello)
except ImportError as error:
    print(type(error).__name__, error)
try:
    from .run import command
except ImportError as error:
    print(type(error).__name__, error)
try:
    import report
    print(report.__name__, report.__file__)
except ImportError as error:
    print(type(error).__name__, error)
'''


@pytest.fixture(scope="module")
def programs(module_folder, write):
    """Write one program in several places."""
    for place in ("app.py", "inner/app.py", "folder/__main__.py", "package/__main__.py", "package/module.py"):
        write(module_folder, place, FACTS)
    write(module_folder, "package/inner/__main__.py", FACTS)
    for place in ("", "inner/", "folder/", "package/", "package/inner/"):
        write(module_folder, f"{place}beside.py", "hello = 'from the program'")
        write(module_folder, f"{place}report.py", "")
    write(module_folder, "package/__init__.py", "import sys; print('package', __name__, sys.argv[0])")
    write(module_folder, "package/inner/__init__.py", "")
    write(module_folder, "no_main/__init__.py", "")
    return module_folder


def under_python(folder, environment, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "start",
    [
        ["app.py"], ["./app.py"], ["inner/app.py", "-x", "--workers", "3"], ["inner/../app.py"], ["folder"],
        ["./folder/", "a b"], ["package"], ["-m", "app"], ["-m", "package", "-m", "--workers"],
        ["-m", "package.module"], ["-m", "package.inner", "x"], ["-m", "package.__main__"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_it_finds_of_itself_what_it_finds_under_python(programs, runmem, environment, start):
    plain = under_python(programs, environment, *start)
    ours = runmem(programs, *start)
    assert plain.returncode == 0, plain.stderr
    assert (ours.code, ours.out) == (0, plain.stdout), ours.err


@pytest.mark.parametrize("start", [["app.py"], ["folder"], ["-m", "app"]], ids=" ".join)
def test_a_safe_path_is_asked_of_the_program_by_the_variable_only(programs, runmem, environment, start):
    """`-P` is about what Python starts, which is runmem: a job has it."""
    plain, safe = environment(), environment(PYTHONSAFEPATH="1")
    command = [sys.executable, "-P", "-m", "runmem", *start]
    done = subprocess.run(command, cwd=programs, env=plain, capture_output=True, text=True, timeout=60)
    assert done.stdout == under_python(programs, environment, *start).stdout, done.stderr
    command = [sys.executable, *start]
    expected = subprocess.run(command, cwd=programs, env=safe, capture_output=True, text=True, timeout=60)
    if expected.returncode == 0:  # a module here is not found then
        assert runmem(programs, *start, env=safe).out == expected.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "there is no module 'nowhere' to be run with -m"),
        ("package.nowhere", "there is no module 'package.nowhere' to be run with -m"),
        ("no_main", "-m no_main: the package has no __main__.py: name one of its modules"),
        ("app.py", "write -m app, or app.py without -m"),
        ("package/module", "-m package/module: expected the name of a module"),
    ],
)
def test_a_module_that_cannot_be_run_is_named_with_the_remedy(programs, runmem, name, told):
    ran = runmem(programs, "-m", name)
    assert ran.code == 2
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_what_a_package_lacks_is_told_as_python_tells_it(tmp_path, runmem, write):
    write(tmp_path, "package/__init__.py", "import not_installed_anywhere")
    write(tmp_path, "package/app.py", "")
    ran = runmem(tmp_path, "-m", "package.app")
    assert ran.code == 1
    assert ran.err.endswith("ModuleNotFoundError: No module named 'not_installed_anywhere'\n")
    assert 'package/__init__.py", line 1' in ran.err


PACKAGE = """
from multiprocessing import get_context
from pycompss.api.api import compss_wait_on
from pycompss.api.task import task
from .steps import doubled
from . import steps

FACTOR = 3

def times(value):
    return value * FACTOR, __name__, __package__

@task(returns=1)
def trebled(value):
    return steps.half(value) * 2 * FACTOR

@task(returns=1)
def pooled(value, how):
    with get_context(how).Pool(1) as pool:
        return pool.map(times, [value])

if __name__ == "__main__":
    print(compss_wait_on([doubled(4), trebled(5)]))
    for how in ("spawn", "forkserver", "fork"):
        with get_context(how).Pool(1) as pool:
            print(pool.map(times, [1, 2]))
    for how in ("spawn", "fork"):
        print(compss_wait_on(pooled(3, how)))
"""
STEPS = """
from pycompss.api.task import task

def half(value):
    return value / 2

@task(returns=1)
def doubled(value):
    return value * 2
"""


@pytest.mark.parametrize("start", [["-m", "study.app"], ["app.py"], ["-m", "app"]], ids=" ".join)
def test_tasks_and_processes_of_a_program_find_its_definitions_however_it_was_started(tmp_path, runmem, write, start):
    write(tmp_path, "study/__init__.py", "")
    write(tmp_path, "study/app.py", PACKAGE)
    write(tmp_path, "study/steps.py", STEPS)
    alone = PACKAGE.replace("from .steps", "from steps").replace("from . import", "import")
    write(tmp_path, "app.py", alone)
    write(tmp_path, "steps.py", STEPS)
    ran = runmem(tmp_path, "--workers=1", *start)
    package = "study" if "study.app" in start else ""
    in_child = [(3, "__mp_main__", package), (6, "__mp_main__", package)]
    forked = None if start == ["app.py"] else package
    assert ran.code == 0, ran.err
    assert ran.out.splitlines() == [
        "[8, 15.0]",
        str(in_child),
        str(in_child),
        str([(3, "__main__", forked), (6, "__main__", forked)]),
        str([(9, "__mp_main__", package)]),
        ran.out.splitlines()[5],
    ]
    assert ran.out.splitlines()[5].startswith("[(9, '__main__', ")


UNGUARDED = """
import runmem
print("begins", flush=True)

@runmem.task(returns=1)
def square(x):
    return x * x

with runmem.session(workers=2):
    print(runmem.wait_on([square(x) for x in range(4)]), flush=True)
print("ends")
"""


def test_a_session_at_the_top_of_a_script_needs_no_guard(tmp_path, write, environment):
    write(tmp_path, "script.py", UNGUARDED)
    done = under_python(tmp_path, environment, "script.py")
    assert (done.returncode, done.stdout) == (0, "begins\n[0, 1, 4, 9]\nends\n"), done.stderr


def test_a_session_in_a_script_from_standard_input_or_the_command_line_works(tmp_path, environment):
    for arguments, given in ((["-"], UNGUARDED), (["-c", UNGUARDED], "")):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
            input=given,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "begins\n[0, 1, 4, 9]\nends\n"), done.stderr


def test_a_child_that_imports_a_session_is_told_what_to_do(tmp_path, write, environment):
    source = "import multiprocessing\nimport runmem\nwith runmem.session(workers=1):\n"
    source += (
        "    child = multiprocessing.get_context('spawn').Process(target=print)\n    child.start()\n    child.join()\n"
    )
    write(tmp_path, "script.py", source)
    done = under_python(tmp_path, environment, "script.py")
    assert "imports the program once more" in done.stderr
    assert "below `if __name__ == '__main__':`" in done.stderr


@pytest.mark.parametrize("start", [["app.py"], ["-m", "app"]], ids=" ".join)
def test_the_environment_script_reaches_the_program_its_tasks_and_its_processes(
    tmp_path, runmem, write, environment, start
):
    write(
        tmp_path,
        "env.sh",
        """
        echo to nobody
        export STUDY='a b' PATH="$PWD/tools:$PATH" PYTHONPATH="$PWD/more:$PYTHONPATH"
        unset UNWANTED
        """,
    )
    write(tmp_path, "tools/greet", "#!/bin/sh\necho greetings\n").chmod(0o755)
    write(tmp_path, "more/of_the_script.py", "value = 7")
    write(
        tmp_path,
        "app.py",
        """
        import os, subprocess
        from shutil import which
        import of_the_script
        from runmem import task, wait_on

        def seen():
            return os.environ["STUDY"], "UNWANTED" in os.environ, os.environ["PATH"].count("tools"), which("greet")

        @task(returns=1)
        def seen_in_a_task():
            import of_the_script
            return seen()

        print(subprocess.run(["greet"], capture_output=True, text=True).stdout.strip(), of_the_script.value)
        print(seen() == wait_on(seen_in_a_task()), seen()[:3])
        os.environ["STUDY"] = "the program's own"  # too late for workers that run
        """,
    )
    env = environment(UNWANTED="1")
    ran = runmem(tmp_path, "--workers=1", "--env_script=env.sh", *start, env=env)
    assert (ran.code, ran.out) == (0, "greetings 7\nTrue ('a b', False, 1)\n"), ran.err


def test_a_time_limit_that_sequential_tasks_cannot_have_is_told(tmp_path, runmem, write):
    write(tmp_path, "app.py", "from runmem import task\n\n@task(returns=1)\ndef f(x):\n    return x\n\nprint(f(1))\n")
    ran = runmem(tmp_path, "--sequential", "--task_timeout=60", "app.py")
    assert ran.code == 0
    assert "note: with --sequential" in ran.err
