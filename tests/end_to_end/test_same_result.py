"""The same program gives the same result: sequentially, on workers, and under plain Python where the meaning is one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PRESENT = """
from runmem import task, wait_on

class Settings:
    scale = 1
    names = ["a"]

class Base:
    factor = 1

class Job(Base):
    settings = Settings
    made = 0
    registry = {}

    def __init__(self, number):
        self.number = number
        Job.made += 1
        Job.registry[number] = self

    def value(self):
        return self.number * LIMIT * Job.settings.scale * Job.factor, len(Settings.names)

LIMIT = 1

@task(returns=1)
def evaluate(job):
    return job.value()

@task(returns=1)
def next_job(job):
    return Job(job.number + 1)

def note(): pass
note.calls = 0

@task(returns=1)
def noted():
    return note.calls

job = Job(1)
for LIMIT in (1, 10, 100):
    Settings.scale += 1
    Base.factor *= 2
    Settings.names.append("b")
    note.calls += 1
    later = next_job(job)
    print(wait_on(evaluate(job)), wait_on(evaluate(later)), wait_on(noted()), Job.made, sorted(Job.registry))
    job = wait_on(later)
    print(type(job) is Job, job.number, Settings.names)
"""
PRESENT_OUT = """\
(4, 2) (8, 2) 1 1 [1]
True 2 ['a', 'b']
(240, 3) (360, 3) 2 1 [1]
True 3 ['a', 'b', 'b']
(9600, 4) (12800, 4) 3 1 [1]
True 4 ['a', 'b', 'b', 'b']
"""

RUNNING = """
import time
from runmem import task, wait_on

class Plugin:
    __slots__ = ()
    names = []
    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        Plugin.names.append(cls.__name__)

class Steps(Plugin):
    taken = 0
    __slots__ = ("number",)
    def __init__(self, number):
        self.number = number

@task(returns=1)
def make(number):
    return Steps(number)

@task(returns=1)
def run(made, count):
    Steps.taken = 0
    for _ in range(count):
        Steps.taken += 1
        time.sleep(0.002)
    return Steps.taken, hasattr(made[0], "__dict__"), len(Plugin.names)

made = [make(number) for number in range(6)]
print(wait_on([run([made[number], made[(number + 1) % 6]], 60) for number in range(6)]))
print([step.number for step in wait_on(made)], Plugin.names, all(type(step) is Steps for step in wait_on(made)))
"""
RUNNING_OUT = f"{[(60, False, 1)] * 6}\n[0, 1, 2, 3, 4, 5] ['Steps'] True\n"

READ_ONLY = """
import sys
import numpy as np
from runmem import INOUT, task, wait_on

@task(returns=1)
def normalise(block):
    block -= block.mean()
    return float(block.sum())

@task(returns=1)
def total(block):
    return float(block.sum())

@task(returns=1)
def merge(one, other):
    for key in other:
        one[key] = one.get(key, 0) + other[key]
    return one

@task(returns=1)
def count(words):
    return {word: words.count(word) for word in words}

@task(block=INOUT)
def double(block):
    block *= 2

small = np.arange(10.0)
print(wait_on([normalise(small), total(small), normalise(small)]), small.sum())
parts = [count(["x", "y"]), count(["x"]), count(["y", "y"])]
whole = parts[0]
for part in parts[1:]:
    whole = merge(whole, part)
print(sorted(wait_on(whole).items()), [sorted(part.items()) for part in wait_on(parts)])
large = np.ones(100_000)
for tried in range(2):
    try:
        print(wait_on(normalise(large)))
    except ValueError as error:
        print("refused", any("--inputs=copied" in note for note in error.__notes__))
double(large)
print(wait_on(total(large)), large.sum(), wait_on(large).sum())
"""
READ_ONLY_OUT = """\
[0.0, 45.0, 0.0] 45.0
[('x', 2), ('y', 3)] [[('x', 1), ('y', 1)], [('x', 1)], [('y', 2)]]
{refused}
200000.0 100000.0 200000.0
"""

PROCESS = """
import os, sys, decimal
from runmem import task, wait_on

@task(returns=1)
def simulate(seed):
    with open("result.txt", "w") as file:
        file.write(str(seed * 2))
    return os.environ.get("STEP"), str(decimal.Decimal(1) / 3), sys.argv[1:], __name__, os.path.basename(__file__)

@task(returns=1)
def wander():
    os.chdir("/")
    os.environ["STEP"] = "of the task"
    sys.argv.append("of the task")

top = os.getcwd()
for step in (1, 2):
    os.makedirs(f"experiment{step}", exist_ok=True)
    os.chdir(f"experiment{step}")
    os.environ["STEP"] = str(step)
    decimal.getcontext().prec = 3 * step
    sys.argv.append(str(step))
    if "--wander" in sys.argv:
        wait_on(wander())
    print(wait_on(simulate(step)))
    os.chdir(top)
for step in (1, 2):
    print(open(f"experiment{step}/result.txt").read())
print(os.path.exists("result.txt"))
"""
PROCESS_OUT = """\
('1', '0.333', ['1'], '__main__', 'app.py')
('2', '0.333333', ['1', '2'], '__main__', 'app.py')
2
4
False
"""

FAILURES = """
import time
from runmem import task, wait_on, FILE_INOUT, wait_on_file

@task(returns=1)
def bad(text, wait_s=0.0):
    time.sleep(wait_s)
    raise ValueError(text)

@task(returns=1)
def increment(value):
    return value + 1

@task(path=FILE_INOUT)
def append(path, number):
    if number == 0:
        raise KeyError("the first one fails")
    with open(path, "a") as file:
        file.write(str(number))

def tried(value):
    try:
        return wait_on(value)
    except Exception as error:
        return type(error).__name__, str(error)

chain = bad("the head of a chain", 0.3)
for _ in range(6):
    chain = increment(chain)
good = increment(1)
print(tried(chain), tried(good))
print(tried([bad("one"), bad("two")]))
tree = [increment(value) for value in (0, bad("a leaf"), 2, 3)]
print(tried(increment(tree[1])), [tried(value) for value in tree])
open("log.txt", "w").write("start ")
for number in range(4):
    append("log.txt", number)
try:
    wait_on_file("log.txt")
except KeyError as error:
    print("caught", error)
print(tried([increment(value) for value in range(300)])[-1])
class Unmade:
    def __reduce__(self):
        return unmade, ()
def unmade():
    raise KeyError("it cannot be made")
@task(returns=1)
def give():
    return Unmade()
@task(returns=1)
def take(value):
    return 1
@task(returns=1)
def give_lock():
    import threading
    return threading.Lock()
for failing in (give(), take(Unmade()), give_lock()):
    name, text = tried(failing)
    print(name, "KeyError" in text or "pickle" in text, "call " in text)
"""
FAILURES_OUT = """\
('ValueError', 'the head of a chain') 2
('ValueError', 'one')
('ValueError', 'a leaf') [1, ('ValueError', 'a leaf'), 3, 4]
caught 'the first one fails'
300
ResultError True True
ArgumentError True True
ResultError True True
"""

LARGE_GLOBALS = """
import numpy as np
from runmem import task, wait_on

table = np.zeros((100, 10_000))
words = {f"word {number}": number for number in range(30_000)}

@task(returns=1)
def look(row):
    return float(table[row].sum()) + words[f"word {row}"]

print(sum(wait_on([look(row) for row in range(40)])))
table[0] = 1
words["word 0"] = 7
print(wait_on(look(0)))
"""

PYCOMPSS = """
import numpy as np
from pycompss.api.task import task
from pycompss.api.api import compss_wait_on

@task(returns=1)
def normalise(block):
    block -= block.mean()
    return float(block.sum() + 1)

@task(returns=1)
def total(block):
    return float(block.sum())

data = np.arange(100_000, dtype=float)
for _ in range(3):
    one, other = normalise(data), total(data)
    print(round(compss_wait_on(one), 6), compss_wait_on(other), data.sum())
"""

PROGRAMS = {
    "present": (PRESENT, PRESENT_OUT, ["--workers=2"]),
    "running": (RUNNING, RUNNING_OUT, ["--workers=2"]),
    "read only": (READ_ONLY, READ_ONLY_OUT.format(refused="refused True\nrefused True"), ["--workers=2"]),
    "copied": (READ_ONLY, READ_ONLY_OUT.format(refused="0.0\n0.0"), ["--workers=2", "--inputs=copied"]),
    "process": (PROCESS, PROCESS_OUT, ["--workers=2"]),
    "failures": (FAILURES, FAILURES_OUT, ["--workers=2"]),
    "large globals": (LARGE_GLOBALS, "780.0\n10007.0\n", ["--workers=2"]),
    "pycompss": (PYCOMPSS, "1.0 4999950000.0 4999950000.0\n" * 3, ["--workers=2"]),
}


@pytest.mark.parametrize(("program", "expected", "options"), PROGRAMS.values(), ids=PROGRAMS)
def test_workers_give_the_result(program: str, expected: str, options: list[str], runmem, write, tmp_path) -> None:
    write(tmp_path, "app.py", program)
    ran = runmem(tmp_path, *options, "app.py")
    assert ran.out == expected, ran.err
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(("program", "expected", "options"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_sequential_run_gives_the_result(
    program: str, expected: str, options: list[str], runmem, write, tmp_path
) -> None:
    write(tmp_path, "app.py", program)
    ran = runmem(tmp_path, "--sequential", *(option for option in options if option != "--workers=2"), "app.py")
    # In one process the class counts on: what a task makes of it is seen.
    expected = expected.replace("1 1 [1]", "1 2 [1, 2]").replace("2 1 [1]", "2 3 [1, 2, 3]")
    expected = expected.replace("3 1 [1]", "3 4 [1, 2, 3, 4]")
    assert ran.out == expected, ran.err
    assert ran.code == 0, ran.err


def test_python_gives_the_same_where_tasks_change_nothing_that_they_read(write, environment, tmp_path) -> None:
    for name in ("process", "large globals"):
        program, expected, _ = PROGRAMS[name]
        write(tmp_path, "app.py", program)
        done = subprocess.run(
            [sys.executable, "app.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
        )
        assert done.stdout == expected, done.stderr


def test_what_a_task_does_to_its_process_does_not_reach_the_next(runmem, write, tmp_path) -> None:
    write(tmp_path, "app.py", PROCESS)
    ran = runmem(tmp_path, "--workers=1", "app.py", "--wander")
    lines = PROCESS_OUT.replace("['1']", "['--wander', '1']").replace("['1', '2']", "['--wander', '1', '2']")
    assert ran.out == lines, ran.err


DEBUGGED = """
import runmem

@runmem.task(returns=1)
def square(value):
    breakpoint()
    return value * value

@runmem.task(returns=1)
@runmem.profile()
def taking(value):
    held = [0] * (2_000_000)
    return len(held) + value

print(runmem.wait_on(square(3)), runmem.wait_on([taking(1), taking(2)]))
"""


def test_a_sequential_run_can_be_debugged_and_measured(write, environment, tmp_path) -> None:
    write(tmp_path, "app.py", DEBUGGED)
    command = [sys.executable, "-m", "runmem", "--sequential", "--python_memory_profile", "--log_level=debug", "app.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, input="p value + 100\nc\n"
    )
    assert done.returncode == 0, done.stderr
    assert "103" in done.stdout
    assert "9 [2000001, 2000002]" in done.stdout
    assert done.stdout.count("held = [0] * (2_000_000)") == 2  # the reports of `@profile`
    (record,) = [r for r in records(tmp_path) if r["name"] == "square"]
    taking = [r for r in records(tmp_path) if r["name"] == "taking"]
    assert (record["status"], record["method"]) == ("finished", "hwm")
    assert [r["method"] for r in taking] == ["hwm", "hwm"]
    assert all(15_000_000 < r["peak_bytes"] - r["base_bytes"] < 18_000_000 for r in taking)
    assert sorted(path.name for path in tmp_path.glob("*.dat")) == [next(tmp_path.glob("mprofile_*.dat")).name]


def records(folder: Any) -> list[dict[str, Any]]:
    import json

    (path,) = folder.glob("runmem_runs/app_*/tasks.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("option", ["--workers=2", "--hosts=a,b", "--worker_memory=2GiB", "--cluster=ssh"])
def test_a_sequential_run_with_workers_is_refused(option: str, runmem, write, tmp_path) -> None:
    write(tmp_path, "app.py", "print(1)")
    ran = runmem(tmp_path, "--sequential", option, "app.py")
    assert (ran.code, ran.out) == (2, "")
    assert f"{option.partition('=')[0]} asks for workers: leave one of them out" in ran.err


def test_an_interrupt_ends_a_sequential_run(start, write, tmp_path) -> None:
    import signal

    write(tmp_path, "app.py", "import time, runmem\n@runmem.task(returns=1)\ndef f():\n    print('in', flush=True)\n"
                              "    time.sleep(60)\nrunmem.wait_on(f())\n")  # fmt: skip
    process = start(tmp_path, "--sequential", "app.py")
    assert process.stdout.readline() == "in\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGINT


@pytest.mark.parametrize("end", ["sys.exit(4)", "raise ValueError('the end')"])
def test_files_are_in_place_however_the_program_ends(end: str, runmem, write, tmp_path) -> None:
    program = (
        "import sys\nfrom runmem import FILE_INOUT, barrier, task\n@task(path=FILE_INOUT)\ndef append(path, word):\n"
        "    with open(path, 'a') as file:\n        file.write(word)\nopen('log.txt', 'w').write('a')\n"
        f"append('log.txt', 'b')\nappend('log.txt', 'c')\nbarrier()\n{end}\n"
    )
    write(tmp_path, "app.py", program)
    ran = runmem(tmp_path, "--workers=1", "app.py")
    assert ran.code == (4 if "exit" in end else 1)
    assert (tmp_path / "log.txt").read_text() == "abc"
