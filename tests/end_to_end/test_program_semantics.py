"""A program under runmem finds what it finds under plain Python: the same output of the same program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import dataclasses, inspect, json, multiprocessing, os, pickle, sys, threading
from pathlib import Path
from parts.steps import cubed, Shape
from runmem import task, wait_on

facts = {}


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2

    def norm(self):
        return (self.x**2 + self.y**2) ** 0.5


class Counter:
    def __init__(self):
        self.value = 0

    @task()
    def add(self, amount):
        self.value += amount


@task(returns=1)
def moved(point, by):
    return dataclasses.replace(point, x=point.x + by)


@task(returns=1)
def words_of(path):
    return len(Path(path).read_text().split())


@task(returns=1)
def own_module_of(value):
    return type(value).__module__


def in_another_process(value):
    return value * OFFSET


OFFSET = 11

if __name__ == "__main__":
    facts["file"] = __file__
    facts["name"] = __name__
    facts["argv"] = sys.argv
    facts["path_0"] = sys.path[0]
    facts["main_is_this"] = sys.modules["__main__"].OFFSET
    facts["source"] = inspect.getsource(in_another_process)
    facts["class_source"] = inspect.getsource(Point)
    facts["pickled"] = pickle.loads(pickle.dumps(Point(1))) == Point(1)
    facts["data_file"] = Path("data/words.txt").read_text()
    facts["next_to_the_program"] = (Path(__file__).parent / "parts" / "steps.py").is_file()
    facts["main_thread"] = threading.current_thread() is threading.main_thread()
    facts["bin_on_path"] = os.path.dirname(sys.executable) in sys.path
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        facts["spawned"] = pool.map(in_another_process, [1, 2])
    point = wait_on(moved(Point(1), 4))
    facts["dataclass_of_main"] = repr(point), point == Point(5), type(point) is Point
    facts["words"] = wait_on(words_of("data/words.txt"))
    counter = Counter()
    counter.add(5)
    counter.add(6)
    facts["method"] = wait_on(counter).value
    facts["imported_task"] = wait_on(cubed(3))
    facts["imported_class"] = wait_on(Shape(4).doubled())
    facts["module_of_imported"] = wait_on(own_module_of(Shape(1)))
    print(json.dumps(facts))
    print("to standard error", file=sys.stderr)
    sys.exit(7)
"""
STEPS = """
from runmem import task

@task(returns=1)
def cubed(x):
    return x**3

class Shape:
    def __init__(self, size):
        self.size = size

    @task(returns=1, target_direction="IN")
    def doubled(self):
        return self.size * 2
"""


@pytest.fixture(scope="module")
def outputs(module_folder: Path, runmem, write, environment) -> dict[str, Any]:
    """Run the program from another folder than its own, by Python and by runmem."""
    write(module_folder, "code/app.py", PROGRAM)
    write(module_folder, "code/parts/steps.py", STEPS)
    write(module_folder, "data/words.txt", "one two three")
    arguments = ["code/app.py", "--workers", "9", "-x", "a b"]
    plain = subprocess.run(
        [sys.executable, *arguments], cwd=module_folder, env=environment(), capture_output=True, text=True, timeout=90
    )
    ours = runmem(module_folder, "--workers=2", *arguments)
    return {"plain": plain, "ours": ours}


def test_the_program_ends_as_under_python(outputs):
    assert outputs["plain"].returncode == 7, outputs["plain"].stderr
    assert outputs["ours"].code == 7, outputs["ours"].err


@pytest.mark.parametrize(
    "fact",
    [
        "file", "name", "argv", "path_0", "main_is_this", "source", "class_source", "pickled", "data_file",
        "next_to_the_program", "main_thread", "bin_on_path", "spawned", "dataclass_of_main", "words", "method",
        "imported_task", "imported_class", "module_of_imported",
    ],
)  # fmt: skip
def test_the_program_finds_the_same_as_under_python(outputs, fact):
    plain, ours = json.loads(outputs["plain"].stdout), json.loads(outputs["ours"].out)
    assert ours[fact] == plain[fact]


def test_no_fact_is_missed(outputs):
    assert json.loads(outputs["ours"].out) == json.loads(outputs["plain"].stdout)


def test_standard_output_is_the_program_s_alone(outputs):
    assert outputs["ours"].out == outputs["plain"].stdout


def test_runmem_s_words_are_plain_lines_on_standard_error(outputs):
    lines = outputs["ours"].err.splitlines()
    assert "to standard error" in lines
    assert [line for line in lines if not line.startswith("runmem: ")] == ["to standard error"]
    assert "\x1b" not in outputs["ours"].err
    assert "\r" not in outputs["ours"].err


def test_an_option_after_the_program_is_the_program_s_and_is_told_so(outputs):
    assert json.loads(outputs["ours"].out)["argv"] == ["code/app.py", "--workers", "9", "-x", "a b"]
    assert "runmem: note: --workers comes after the program" in outputs["ours"].err
    assert outputs["ours"].provenance["workers"] == 2


def test_calls_run_in_the_order_of_the_program(runmem, write, tmp_path):
    """Each result is used up before the next is made, and of what is independent the first comes first."""
    write(
        tmp_path,
        "app.py",
        """
        import time
        from runmem import task, wait_on

        @task(returns=1)
        def make(n):
            time.sleep(0.03)
            return n, time.time()

        @task(returns=1)
        def use(made):
            time.sleep(0.03)
            return made[0], time.time()

        def out_of_order(results):
            began = [n for n, _ in sorted(wait_on(results), key=lambda result: result[1])]
            return max(abs(n - place) for place, n in enumerate(began))

        made = [make(n) for n in range(60)]
        print(out_of_order(made) <= 15)  # of 60; a busy machine may hold up one worker
        made = [make(n) for n in range(60)]
        used = [use(m) for m in made]
        print(out_of_order(used) <= 20)
        times = dict(wait_on(made))
        print(sum(when < times[59] for _, when in wait_on(used)) > 30)
        """,
    )
    ran = runmem(tmp_path, "--workers=2", "--no_summary", "app.py")
    assert (ran.out, ran.code) == ("True\nTrue\nTrue\n", 0), ran.err


def test_a_large_argument_is_copied_twice_at_most_in_the_master(runmem, write, tmp_path):
    """Once to keep it as it is at the call, and once where the scheduler keeps it for a call that runs again."""
    write(
        tmp_path,
        "app.py",
        """
        import resource, sys
        from runmem import task, wait_on

        MIB = 128

        @task(returns=1)
        def weigh(value):
            return len(value["a"] if type(value) is dict else value)

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        wait_on(weigh(b""))
        for make in (bytes, bytearray, lambda n: "x" * n, lambda n: {"a": bytes(n)}):
            before, value = peak(), make(MIB << 20)
            assert wait_on(weigh(value)) == MIB << 20
            del value
        print(round((peak() - before) / MIB), round(peak() / MIB))
        """,
    )
    ran = runmem(tmp_path, "--workers=1", "--no_summary", "app.py")
    assert ran.code == 0, ran.err
    grown, highest = map(int, ran.out.split())
    assert grown <= 2
    assert highest <= 5, "the program's own value, two copies, and what Python and Dask take"
