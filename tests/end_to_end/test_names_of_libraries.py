"""Modules of a program that have names of the standard library's, of Dask's, and of what Dask needs."""

from __future__ import annotations

import subprocess
import sys

NAMES = [
    "asyncio", "click", "code", "copy", "csv", "decimal", "html", "json", "locale", "logging", "msgpack", "numbers",
    "numpy", "pickle", "queue", "signal", "socket", "subprocess", "tempfile", "tornado", "traceback", "uuid", "zict",
]  # fmt: skip
MODULE = """
class Thing:
    def __init__(self, value):
        self.value = value
    def doubled(self):
        return Thing(2 * self.value)
"""
TASK = """
from runmem import task
@task(returns=1)
def made(cls, value):
    return cls(value)
"""
APP = f"""
from runmem import task, wait_on
import yaml, {", ".join(NAMES)}
MODULES = [{", ".join(NAMES)}]
@task(returns=2)
def doubled(things):
    import calendar, queue
    assert all(type(thing) is module.Thing for thing, module in zip(things, MODULES)) and queue in MODULES
    return [thing.doubled() for thing in things], calendar.Thing(5)
things = [module.Thing(number) for number, module in enumerate(MODULES)]
for _ in range(2):
    found, inside = wait_on(doubled(things))
    for thing, module in zip(found, MODULES):
        print(module.__name__, type(thing) is module.Thing, thing.value)
    print(type(inside).__module__)
print([found.value for found in wait_on([yaml.made(module.Thing, 3) for module in MODULES])])
import calendar
print(calendar.Thing is type(inside), calendar.__file__)
"""
BESIDE = """
from statistics import mean
from runmem import task, wait_on
@task(returns=1)
def means(values):
    import multiprocessing.pool, unittest, xmlrpc.client
    with multiprocessing.pool.ThreadPool(2) as pool:
        return pool.map(mean, [values, values])
print(wait_on(means([1, 2, 6])))
"""
PACKAGE = {
    "concurrent/__init__.py": "from .futures import total\nimport logging.handlers",
    "concurrent/futures.py": MODULE + TASK + "def total(values):\n    return sum(values)",
    "concurrent/__main__.py": """
        from runmem import task, wait_on
        from . import total
        from logging import handlers
        from .futures import Thing, made
        @task(returns=1)
        def added(values, thing):
            import concurrent.futures as futures
            assert type(thing) is futures.Thing
            return total(values) + handlers.MORE + thing.value
        print(__name__, __package__, wait_on([added([1, 2], made(Thing, 4)), added([3], Thing(1))]))
        """,
    "logging/__init__.py": "",
    "logging/handlers.py": "MORE = 100",
}


def under_python(folder, environment, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )


def under_runmem(folder, environment, *arguments):
    """Start it as the command does, which does not import from the folder that it is started in."""
    return under_python(folder, environment, "-P", "-m", "runmem", *arguments)


def test_the_program_has_its_modules_in_tasks_too_and_runmem_those_that_it_means(tmp_path, environment, write):
    for name in [*NAMES, "calendar"]:
        write(tmp_path, f"inner/{name}.py", MODULE)
    write(tmp_path, "inner/yaml.py", TASK)
    write(tmp_path, "inner/app.py", APP)
    ran = under_runmem(tmp_path, environment, "--python_memory_profile", "--workers", "2", "inner/app.py")
    call = "".join(f"{name} True {2 * number}\n" for number, name in enumerate(NAMES)) + "calendar\n"
    last = f"{[3] * len(NAMES)}\nTrue {tmp_path}/inner/calendar.py\n"
    assert (ran.returncode, ran.stdout) == (0, call * 2 + last), ran.stderr
    assert "Peaks are exact" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "warn" not in ran.stderr


def test_a_module_that_the_program_never_imports_is_in_nobodys_way(tmp_path, environment, write):
    for name in [*NAMES, "dask", "psutil", "ssl", "random", "threading", "types", "xml", "concurrent", "yaml"]:
        write(tmp_path, f"{name}.py", "raise SystemExit('imported')")
    write(tmp_path, "app.py", BESIDE)
    ran = under_runmem(tmp_path, environment, "--workers", "1", "app.py")
    assert (ran.returncode, ran.stdout) == (0, "[3, 3]\n"), ran.stderr
    assert "Traceback" not in ran.stderr


def test_packages_are_the_programs_as_well(tmp_path, environment, write):
    for name, source in PACKAGE.items():
        write(tmp_path, name, source)
    expected = under_python(tmp_path, environment, "-m", "concurrent")
    ran = under_runmem(tmp_path, environment, "--workers", "1", "-m", "concurrent")
    assert (ran.returncode, ran.stdout) == (0, "__main__ concurrent [107, 104]\n"), ran.stderr
    assert (expected.returncode, expected.stdout) == (0, ran.stdout), expected.stderr
    assert "Traceback" not in ran.stderr


def test_an_import_that_fails_is_told_as_python_tells_it(tmp_path, environment, write):
    write(tmp_path, "queue.py", "def f():\n    import parts\n")
    write(tmp_path, "parts.py", "import json.nothing\n")
    write(tmp_path, "app.py", "import queue\nqueue.f()\n")
    expected = under_python(tmp_path, environment, "app.py")
    ran = under_runmem(tmp_path, environment, "app.py")
    assert (ran.returncode, ran.stderr) == (1, expected.stderr)
    write(tmp_path, "task.py", """
        from runmem import task, wait_on
        @task(returns=1)
        def f():
            import parts
        wait_on(f())
        """)  # fmt: skip
    ran = under_runmem(tmp_path, environment, "--workers", "1", "task.py")
    assert "No module named 'json.nothing'" in ran.stderr
    assert "shadowed.py" not in ran.stderr


def test_a_name_that_cannot_be_had_is_refused_in_one_line_before_any_task(tmp_path, environment, write):
    write(tmp_path, "psutil.py", "")
    write(tmp_path, "app.py", "print('begins')\ntry:\n    import psutil\nexcept ImportError:\n    pass\nprint('ends')")
    ran = under_runmem(tmp_path, environment, "app.py")
    assert (ran.returncode, ran.stdout) == (2, "begins\n")
    told = f"the program imports {tmp_path}/psutil.py, and runmem needs the library psutil under this name"
    assert ran.stderr == f"runmem: error: {told}: rename the program's module.\n"


def test_a_process_that_forks_for_each_target_finds_the_programs_modules(tmp_path, environment, write):
    for name in ("queue", "uuid"):
        write(tmp_path, f"{name}.py", MODULE)
    for name in ("signal", "socket", "resource", "concurrent"):
        write(tmp_path, f"{name}.py", "raise SystemExit('imported')")
    write(tmp_path, "app.py", """
        import queue
        from runmem.task_runner import CmdLineTask, Config, TaskRunner
        TaskRunner.localPool = False
        class Study(CmdLineTask):
            ConfigClass, _DefaultName = Config, "study"
            def runDataRef(self, target):
                import queue as again, uuid
                return queue.Thing(again.Thing(3)), uuid.Thing(target.dataId["visit"])
        if __name__ == "__main__":
            import uuid
            for each in Study.parseAndRun(args=["data", "--id", "visit=4..5"], doReturnResults=True).resultList:
                first, second = each.result
                print(type(first) is type(first.value) is queue.Thing, type(second) is uuid.Thing, second.value)
        """)  # fmt: skip
    (tmp_path / "data").mkdir()
    ran = under_runmem(tmp_path, environment, "--workers", "1", "app.py")
    assert (ran.returncode, ran.stdout) == (0, "True True 4\nTrue True 5\n"), ran.stderr
