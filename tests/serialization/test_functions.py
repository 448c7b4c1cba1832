"""A function arrives on a worker with what it refers to, as it was when the task was called."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from runmem.serialization.functions import FunctionPacker, load_function

from runmem.errors import ArgumentError
from runmem.graph.task import TaskFunction, task


@pytest.fixture
def packer() -> FunctionPacker:
    return FunctionPacker()


def call(data: bytes, *args: Any) -> Any:
    load_function.cache_clear()
    return load_function(data)[1](*args)


def test_a_closure_is_packed_once_and_again_when_it_has_changed(packer: FunctionPacker) -> None:
    factor = 2

    @task(returns=1)
    def scaled(x):
        return x * factor

    first = packer.pack(scaled)
    assert packer.pack(scaled) is first
    factor = 3
    second = packer.pack(scaled)
    assert second is not first
    assert packer.pack(scaled) is second
    assert (call(first, 10), call(second, 10)) == (20, 30)


def test_a_value_that_can_change_in_place_is_packed_at_each_call(packer: FunctionPacker) -> None:
    table = {"a": 1}

    @task(returns=1)
    def look(key):
        return table[key]

    first = packer.pack(look)
    table["a"] = 2
    assert call(first, "a") == 1
    assert call(packer.pack(look), "a") == 2


def test_defaults_travel_too(packer: FunctionPacker) -> None:
    @task(returns=1)
    def with_default(x, *, table=(1, 2)):
        return x + sum(table)

    data = packer.pack(with_default)
    assert packer.pack(with_default) is data
    assert call(data, 1) == 4


def test_a_task_may_call_itself_and_other_tasks(packer: FunctionPacker) -> None:
    @task(returns=1)
    def double(x):
        return 2 * x

    @task(returns=1)
    def factorial(n):
        return double(n) // 2 * factorial(n - 1) if n else 1

    assert call(packer.pack(factorial), 5) == 120


def test_functions_may_refer_to_each_other_in_a_circle(packer: FunctionPacker) -> None:
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    @task(returns=1)
    def is_even(n):
        return even(n)

    data = packer.pack(is_even)
    assert packer.pack(is_even) is data
    assert call(data, 10) is True


def test_what_cannot_be_pickled_is_told_with_what_to_do(packer: FunctionPacker) -> None:
    lock = threading.Lock()

    @task(returns=1)
    def locked(x):
        with lock:
            return x

    with pytest.raises(ArgumentError, match=r"locked cannot be sent to a worker: .*Make that value inside the task"):
        packer.pack(locked)


def test_a_task_of_a_module_travels_by_reference(
    packer: FunctionPacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks_by_reference.py").write_text(
        "from runmem import task, profile\nTABLE = list(range(100000))\n"
        "@task(returns=1)\ndef look(i):\n    return TABLE[i]\n"
        "@profile(full_report=False)\n@task(returns=1)\ndef profiled(i):\n    return TABLE[i]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import tasks_by_reference

    for found in (tasks_by_reference.look, tasks_by_reference.profiled.__wrapped__):
        assert isinstance(found, TaskFunction)
        data = packer.pack(found)
        assert len(data) < 200
        assert pickle.loads(data) is found


PROGRAM = """
import sys, pickle
from runmem import task
from runmem.serialization.functions import FunctionPacker

FACTOR = 2

@task(returns=1)
def scaled(x):
    return x * FACTOR

packer = FunctionPacker()
first = packer.pack(scaled)
same = packer.pack(scaled) is first
FACTOR = 5
second = packer.pack(scaled)
pickle.dump((same, first, second), open(sys.argv[1], "wb"))
"""


def test_a_function_of_the_program_itself_takes_its_globals_along(tmp_path: Path) -> None:
    """Packed in one process, as ``__main__``; loaded in another that knows nothing of the program."""
    (tmp_path / "app.py").write_text(PROGRAM)
    packed = tmp_path / "packed"
    subprocess.run([sys.executable, str(tmp_path / "app.py"), str(packed)], check=True, env=os.environ)
    same, first, second = pickle.loads(packed.read_bytes())
    assert same
    load = "import sys, json; from runmem.serialization.functions import load_function\n"
    load += "import pickle; _, *packed = pickle.load(open(sys.argv[1], 'rb'))\n"
    load += "print(json.dumps([[t.module, f(10)] for t, f in map(load_function, packed)]))"
    done = subprocess.run([sys.executable, "-c", load, str(packed)], check=True, capture_output=True, env=os.environ)
    assert json.loads(done.stdout) == [["app", 20], ["app", 50]]


def test_a_changed_attribute_of_a_class_of_the_program_is_seen(packer: FunctionPacker) -> None:
    class Config:
        factor = 2

    @task(returns=1)
    def scaled(value: int) -> int:
        return value * Config.factor

    first = packer.pack(scaled)
    assert packer.pack(scaled) is first
    Config.factor = 5
    assert call(packer.pack(scaled), 10) == 50
