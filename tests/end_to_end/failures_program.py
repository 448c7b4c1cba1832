"""Tasks that fail in groups, and under each failure policy; prints what came of each as JSON."""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy
from pycompss.api.api import (
    TaskGroup,
    compss_barrier_group,
    compss_cancel_group,
    compss_open,
    compss_wait_on,
)
from pycompss.api.exceptions import COMPSsException
from pycompss.api.on_failure import on_failure
from pycompss.api.parameter import FILE_IN, FILE_INOUT, FILE_OUT, INOUT
from pycompss.api.task import task

folder = tempfile.mkdtemp()
found = {}


def empty(name):
    path = os.path.join(folder, name)
    open(path, "w").close()
    return path


def content(path):
    with compss_open(path) as file:
        return file.read()


@task(path=FILE_INOUT)
def write(path, text):
    with open(path, "a") as file:
        file.write(text)


@task(path=FILE_INOUT)
def write_and_raise(path, text):
    with open(path, "a") as file:
        file.write(text)
    raise COMPSsException("on purpose")


@task(path=FILE_INOUT, returns=1)
def write_and_fail(path, text):
    with open(path, "a") as file:
        file.write(text)
    raise ValueError("on purpose")


@task(returns=1)
def show(value):
    return repr(value)


def group_that_fails(implicit):
    path = empty(f"group {implicit}")
    try:
        with TaskGroup(f"group {implicit}", implicit):
            for _ in range(3):
                write_and_raise(path, "3")
        compss_barrier_group(f"group {implicit}")
    except COMPSsException as error:
        write(path, f"caught {error}")
    write(path, "!")
    return content(path)


found["group"] = group_that_fails(True)
found["barrier of a group"] = group_that_fails(False)


@on_failure(management="CANCEL_SUCCESSORS", returns=9)
@task(path=FILE_INOUT, returns=1)
def cancels(path):
    with open(path, "a") as file:
        file.write("left")
    raise ValueError("on purpose")


path = empty("cancels")
result = cancels(path)
after = show(result)
last = show([after])
found["cancelled"] = compss_wait_on(result, after, last), content(path)


@task(path=FILE_INOUT, on_failure="RETRY", returns=1)
def succeeds_late(path, tries):
    with open(tries, "a") as file:
        file.write("x")
    with open(path, "a") as file:
        file.write("once")
    if os.path.getsize(tries) < 3:
        raise ValueError("not yet")
    return os.path.getsize(tries)


path = empty("retry")
found["tried again"] = compss_wait_on(succeeds_late(path, empty("tries"))), content(path)


@task(on_failure="RETRY", returns=1)
def never_succeeds(tries):
    with open(tries, "a") as file:
        file.write("x")
    raise KeyError("never")


tries = empty("all tries")
try:
    compss_wait_on(never_succeeds(tries))
except KeyError:
    found["tried in vain"] = os.path.getsize(tries)


def tried(path):
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


@task(path=FILE_INOUT, box=INOUT, returns=1)
def succeeds_late_without_a_policy(path, box, tries):
    box.append(1)
    with open(path, "a") as file:
        file.write("once")
    if tried(tries) < 3:
        raise ValueError("not yet")
    return os.path.getsize(tries)


path, box = empty("retry by default"), [0]
found["default"] = compss_wait_on(succeeds_late_without_a_policy(path, box, empty("3")), box), content(path)


@task(returns=1, on_failure="FAIL")
def fails_at_once(tries):
    tried(tries)
    raise KeyError("at once")


@task(returns=2)
def too_few_values(tries):
    tried(tries)
    return 1


@task(returns=1)
def raises_for_the_group(tries):
    tried(tries)
    raise COMPSsException("on purpose")


@task(array=INOUT)
def change_in_place(array, tries):
    array += 1
    if tries is not None:
        tried(tries)
        raise ValueError("changed")


@task(returns=1)
def make_array():
    return numpy.zeros(500_000)


counts = {}
for call in (fails_at_once, too_few_values, raises_for_the_group):
    name = empty(f"tries of {call.__name__}")
    try:
        compss_wait_on(call(name))
    except Exception:
        counts[call.__name__] = os.path.getsize(name)
large = make_array()
change_in_place(large, None)
change_in_place(large, empty("in place"))
try:
    compss_wait_on(large)
except ValueError:
    counts["in place"] = os.path.getsize(os.path.join(folder, "in place"))
found["tries"] = counts


@on_failure(management="IGNORE", returns=5, box=[None])
@task(box=INOUT, returns=1)
def ignored(box):
    box.append(1)
    raise ValueError("on purpose")


@task(box=INOUT, returns=2, on_failure="IGNORE")
def ignored_as_it_is(box):
    box.append(1)
    raise ValueError("on purpose")


box, other = [0], [0]
first = ignored(box)
second, third = ignored_as_it_is(other)
found["ignored"] = compss_wait_on(first, box, second, third, other, show(third))


@on_failure(management="IGNORE", path=__file__)
@task(path=FILE_OUT)
def ignored_with_a_file(path):
    raise ValueError("on purpose")


path = os.path.join(folder, "default")
ignored_with_a_file(path)
found["default file"] = content(path) == content(__file__)

path = empty("fails")
try:
    compss_wait_on(write_and_fail(path, "lost"))
except ValueError:
    found["failed"] = Path(path).read_text()

if "--die" in sys.argv:

    @task(returns=1, on_failure="IGNORE")
    def dies():
        os._exit(1)

    found["ignored death"] = compss_wait_on(show(dies()))


@task(path=FILE_IN, on_failure="FAIL", returns=1)
def read(path):
    with open(path) as file:
        return file.read()


try:
    compss_wait_on(read(os.path.join(folder, "not there")))
except FileNotFoundError as error:
    found["missing"] = error.__notes__[-1]

with TaskGroup("cancelled", False):
    shown = [show(number) for number in range(200)]
compss_cancel_group("cancelled")
values = compss_wait_on(shown)
found["cancelled group"] = [value for value in values if value is not None]
if None in values:
    found["cancelled at once"] = compss_wait_on(show(shown[values.index(None)]))
print(json.dumps(found))
