"""`--nested`: tasks that call tasks, on one worker, on two, and in the program's process."""

from __future__ import annotations

import signal

import pytest

from runmem.events import FIRST_NESTED

pytestmark = pytest.mark.slow

PROGRAM = """
import asyncio
import os
import random

from pycompss.api.api import TaskGroup, compss_open, compss_wait_on
from pycompss.api.exceptions import COMPSsException
from pycompss.api.parameter import COLLECTION_INOUT, FILE_IN, FILE_INOUT, FILE_OUT, INOUT
from pycompss.api.task import task

LIMIT = 3

class Node:
    def __init__(self, left, right):
        self.left, self.right = left, right
    @task(returns=1)
    def both(self):
        return total(self.left), total(self.right)

class Odd(Exception):
    pass

@task(returns=int)
def fib(n):
    if n < 2:
        return n
    return sum(compss_wait_on([fib(n - 1), fib(n - 2)]))

@task(returns=int)
def chain(n):
    return 0 if n == 0 else 1 + compss_wait_on(chain(n - 1))

@task(returns=list)
def quicksort(values):
    if len(values) < 2:
        return values
    pivot, *rest = values
    less, more = quicksort([v for v in rest if v < pivot]), quicksort([v for v in rest if v >= pivot])
    return [*compss_wait_on(less), pivot, *compss_wait_on(more)]

@task(values=INOUT)
def merge_sort(values):
    if len(values) < 2:
        return
    left, right = values[: len(values) // 2], values[len(values) // 2 :]
    merge_sort(left)
    merge_sort(right)
    left, right = compss_wait_on(left, right)
    values.clear()
    while left and right:
        values.append((left if left[0] <= right[0] else right).pop(0))
    values.extend(left + right)

@task(returns=1)
def total(values):
    return sum(values)

@task(values=INOUT)
def add(values, item):
    values.append(item)

@task(values=INOUT)
def add_two(values, item):
    add(values, item)
    add(values, item + 1)

@task(returns=1)
def same(value):
    return value

@task(returns=2)
def pair(value):
    return same(value), {"inside": [same(value + 1)]}

@task(returns=1)
def leaf(n):
    return Node(n, LIMIT) if n == 0 else [leaf(n - 1)]

@task(returns=1)
def items():
    for n in range(3):
        yield same(n)

@task(returns=1)
def local_classes():
    class Local:
        number = 5
    @task(returns=1)
    def inner(value):
        return [value, Local(), value.number]
    value, made, number = compss_wait_on(inner(Local()))
    return type(value) is Local, type(made) is Local, number

@task(returns=1)
async def awaits():
    async def plus(future):
        return await future + 10
    return await asyncio.gather(plus(same(1)), plus(same(2)))

@task(returns=1)
def large():
    import numpy
    ones = numpy.ones(200_000)
    before = compss_wait_on(total(ones))
    ones[0] = 5
    mine = compss_wait_on(same(ones))
    mine[0] = 7  # the worker stores the value of `same` still
    return float(before), float(compss_wait_on(total(ones))), float(mine[0])

@task(returns=1)
def bad(number):
    raise Odd(f"odd {number}")

@task(returns=1)
def catches():
    try:
        compss_wait_on(bad(1))
    except Odd as error:
        return f"caught {error}"

@task(returns=1)
def fails():
    return compss_wait_on(bad(2))

@task(returns=1)
def waits_for_nothing():
    bad(3)
    return 1

@task(returns=1, on_failure="RETRY")
def retries():
    return compss_wait_on(bad_once("outer"))

@task(returns=1)
def bad_once(name):
    if not os.path.exists(name):
        open(name, "w").close()
        raise Odd(name)
    return name

@task(returns=1, on_failure="IGNORE", defaults={"returns": 7})
def ignored():
    raise Odd("ignored")

@task(returns=1)
def uses_ignored():
    return ignored()

@task(returns=1)
def stops():
    raise COMPSsException("stop")

@task(returns=1)
def groups():
    try:
        with TaskGroup("inner"):
            stops()
    except COMPSsException as error:
        return f"group: {error}"

@task(path=FILE_OUT)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)

@task(path=FILE_INOUT)
def append(path, text):
    with open(path, "a") as file:
        file.write(text)

@task(path=FILE_IN, returns=1)
def read(path):
    with open(path) as file:
        return file.read()

@task(path=FILE_INOUT, returns=2)
def files(path, other):
    write(other, "one,")
    append(other, "two,")
    append(path, "inner,")
    early = read(other)
    append(other, "three,")
    with compss_open(other) as file:
        return early, file.read()

@task(parts=COLLECTION_INOUT)
def fill(parts):
    for number, part in enumerate(parts):
        part.append(number)

@task(parts=COLLECTION_INOUT, returns=1)
def collections(parts):
    own = [[], []]
    fill(own)
    fill(own)
    fill(parts)
    return compss_wait_on(own)

def shown(future):
    try:
        return compss_wait_on(future)
    except Exception as error:
        return type(error) is Odd, str(error)

random.seed(3)
values = [random.randrange(1000) for _ in range(24)]
print("fib", compss_wait_on(fib(9)), "chain", compss_wait_on(chain(40)))
print("quicksort", compss_wait_on(quicksort(list(values))) == sorted(values))
mine = list(values)
merge_sort(mine)
print("merge_sort", compss_wait_on(mine) == sorted(values))
mine = [0]
add_two(mine, 5)
add(mine, 9)
print("inout", compss_wait_on(mine))
print("outputs", compss_wait_on(list(pair(3))), compss_wait_on(same(pair(3)[0])))
made = compss_wait_on(leaf(3))[0][0][0]
print("class", type(made) is Node, made.left, made.right, compss_wait_on(Node([1, 2], [3]).both()))
print("local", compss_wait_on(local_classes()), [compss_wait_on(item) for item in compss_wait_on(items())])
print("async", compss_wait_on(awaits()), "large", compss_wait_on(large()))
print("failures", compss_wait_on(catches()), shown(fails()), shown(waits_for_nothing()), shown(retries()))
print("policies", compss_wait_on(uses_ignored()), compss_wait_on(groups()))
with open("own.txt", "w") as file:
    file.write("main,")
print("files", compss_wait_on(list(files("own.txt", "other.txt"))))
with compss_open("own.txt") as file, open("other.txt") as other:
    print("in place", file.read(), other.read())
parts = [[], []]
print("collections", compss_wait_on(collections(parts)), compss_wait_on(parts))
"""
OUT = """\
fib 34 chain 40
quicksort True
merge_sort True
inout [0, 5, 6, 9]
outputs [3, {'inside': [4]}] 3
class True 0 3 (3, 3)
local (True, True, 5) [0, 1, 2]
async [11, 12] large (200000.0, 200004.0, 7.0)
failures caught odd 1 (True, 'odd 2') (True, 'odd 3') outer
policies 7 group: stop
files ['one,two,', 'one,two,three,']
in place main,inner, one,two,three,
collections [[0, 0], [1, 1]] [[0], [1]]
"""


@pytest.mark.parametrize("options", [["--sequential"], ["--workers=1"], ["--workers=2"]], ids=str)
def test_the_results_are_those_of_the_program_in_one_process(tmp_path, runmem, write, options):
    write(tmp_path, "app.py", PROGRAM)
    ran = runmem(tmp_path, "--nested", *options, "app.py", timeout_s=300)
    assert ran.out == OUT, ran.err
    assert ran.code == 0
    assert not list(ran.runs[-1].glob("files/*"))


MEASURED = """
import sys
from runmem import task, wait_on

MIB = 1024 * 1024

@task(returns=1)
def inner(mib):
    return len(bytearray(mib * MIB))

@task(returns=1)
def outer():
    mine = bytearray(30 * MIB)
    got = wait_on(inner(120))
    more = bytearray(20 * MIB)
    return got + len(mine) + len(more)

@task(returns=1)
def outermost():
    return outer()

print(wait_on(outermost()) // MIB)
"""


def test_what_runs_while_a_task_waits_is_not_its_memory(tmp_path, runmem, write):
    write(tmp_path, "app.py", MEASURED)
    ran = runmem(tmp_path, "--nested", "--workers=1", "--python_memory_profile", "app.py")
    assert (ran.code, ran.out) == (0, "170\n"), ran.err
    records = {record["name"]: record for record in ran.records}
    calls = [records[name] for name in ("outermost", "outer", "inner")]
    numbers = [record["task_id"] for record in calls]
    assert numbers[0] == 1
    assert min(numbers[1:]) >= FIRST_NESTED
    assert [record["parent_id"] for record in calls] == [None, *numbers[:2]]
    mib = [round(record["increment_bytes"] / 1024**2) for record in calls]
    assert mib[0] < 5
    assert 49 <= mib[1] <= 55
    assert 119 <= mib[2] <= 125
    assert not any(record["shared"] for record in calls)
    assert calls[1]["peak_bytes"] < calls[2]["peak_bytes"]
    assert (ran.provenance["calls"], ran.provenance["nested_calls_recorded"]) == (1, 2)
    assert ran.provenance["records_complete"]


def test_without_the_setting_a_task_calls_tasks_as_functions(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        """
        from runmem import task, wait_on

        @task(returns=1)
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        print(wait_on(fib(10)))
        """,
    )
    ran = runmem(tmp_path, "--workers=1", "--python_memory_profile", "app.py")
    assert (ran.code, ran.out, len(ran.records)) == (0, "55\n", 1), ran.err


def test_calls_of_a_task_run_at_the_same_time_with_their_constraints_and_in_bundles(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        """
        import os, time
        from pycompss.api.constraint import constraint
        from pycompss.api.task import task
        from pycompss.api.api import compss_wait_on

        @task(returns=1)
        def meets(mine, other):
            open(mine, "w").close()
            while not os.path.exists(other):
                time.sleep(0.01)
            return mine

        @task(returns=1)
        def both():
            return compss_wait_on([meets("a", "b"), meets("b", "a")])

        @constraint(computing_units=2)
        @task(returns=1)
        def wide(n):
            return 1 if n == 0 else sum(compss_wait_on([wide(n - 1), wide(n - 1)]))

        @constraint(computing_units=99)
        @task(returns=1)
        def too_wide():
            return 1

        @task(returns=1)
        def asks():
            return compss_wait_on(too_wide())

        @task(returns=1)
        def tiny(n):
            return n

        @task(returns=2)
        def many():
            import distributed

            futures = [tiny(number) for number in range(1000)]
            total = sum(compss_wait_on(futures))
            count = lambda dask_scheduler: sum(str(key).startswith("tiny-") for key in dask_scheduler.tasks)
            return total, distributed.get_client().run_on_scheduler(count)

        print(compss_wait_on(both()), compss_wait_on([wide(3), wide(2)]))
        total, dask_tasks = compss_wait_on(many())
        print(total, dask_tasks < 500)
        try:
            compss_wait_on(asks())
        except Exception as error:
            print(type(error).__name__, "cannot run on any node" in str(error))
        """,
    )
    ran = runmem(tmp_path, "--nested", "--workers=2", "app.py")
    assert (ran.code, ran.out) == (0, "['a', 'b'] [8, 4]\n499500 True\nArgumentError True\n"), ran.err


def test_a_worker_that_dies_and_a_time_limit(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        """
        import os, signal, time
        from runmem import TaskTimeoutError, task, wait_on

        @task(returns=1)
        def dies_once(path):
            if not os.path.exists(path):
                open(path, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return path

        @task(returns=1)
        def outer(n):
            return wait_on(dies_once("died") if n == 0 else outer(n - 1))

        @task(returns=1, time_out=0.5)
        def sleeps():
            time.sleep(1000)

        @task(returns=1)
        def times_out():
            try:
                wait_on(sleeps())
            except TaskTimeoutError as error:
                return os.getpid(), str(error)

        @task(returns=1)
        def process():
            return os.getpid()

        print(wait_on(outer(3)))
        before = wait_on(process())
        pid, told = wait_on(times_out())
        print(pid == before == wait_on(process()), "exceeded its time limit of 0.5 s" in told)
        """,
    )
    ran = runmem(tmp_path, "--nested", "--workers=1", "app.py")
    assert (ran.code, ran.out) == (0, "died\nTrue True\n"), ran.err


CANCELLING = """
import random
import time

from pycompss.api.api import TaskGroup, compss_cancel_group, compss_wait_on
from pycompss.api.task import task

@task(returns=1)
def inner(number):
    time.sleep(0.01)
    return number

@task(returns=1)
def outer():
    return [compss_wait_on([inner(i), inner(i)]) for i in range(50)]

random.seed(1)
for number in range(12):
    with TaskGroup(str(number), implicit_barrier=False):
        cancelled = [outer(), outer()]
    time.sleep(random.uniform(0.05, 0.4))
    compss_cancel_group(str(number))
    assert compss_wait_on([inner(i) for i in range(3)]) == [0, 1, 2]
print(compss_wait_on(cancelled))
"""


def test_a_worker_whose_waiting_call_was_cancelled_runs_others(tmp_path, runmem, write):
    write(tmp_path, "app.py", CANCELLING)
    ran = runmem(tmp_path, "--nested", "--workers=1", "app.py")
    assert (ran.code, ran.out) == (0, "[None, None]\n"), ran.err


def test_an_interrupt_ends_calls_at_every_depth(tmp_path, start, write, eventually, processes_with, environment):
    write(
        tmp_path,
        "app.py",
        """
        import time
        from runmem import task, wait_on

        @task(returns=1)
        def deep(n):
            if n == 0:
                open("begun", "w").close()
                time.sleep(1000)
            return wait_on([deep(n - 1), deep(n - 1)])

        wait_on(deep(4))
        """,
    )
    env = environment()
    process = start(tmp_path, "--nested", "--workers=1", "app.py", env=env)
    eventually((tmp_path / "begun").exists, within=60)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    eventually(lambda: not processes_with(env["RUNMEM_TEST_MARK"]))
