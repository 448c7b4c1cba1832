"""What a task changes outside of itself is said when it is declared, and nothing else is."""

from __future__ import annotations

import builtins
import logging
import os
import sys
import threading
import warnings
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runmem.errors import TaskWarning
from runmem.graph.global_changes import global_changes
from runmem.graph.task import task

total = 0
gone = 0
seen: list[int] = []
names: set[int] = set()
cache: dict[Any, Any] = {}
counts: dict[str, int] = defaultdict(int)
last: deque[int] = deque()
pixels = np.zeros(4)
mine = threading.local()
log = logging.getLogger("tests")
other = SimpleNamespace(x=1)


class Settings:
    depth = 1
    limits: dict[str, int] = {}  # noqa: RUF012

    def deepen(self):
        Settings.depth += 1


class Ledger(list):
    pass


settings = Settings()
ledger = Ledger()


def adds(x):
    global total
    total += x
    return total


def assigns_in_a_branch(x):
    global total
    for number in range(x):
        if number:
            total = number


def deletes(x):
    global gone
    del gone


def defines(x):
    global helper

    def helper():
        return x


def assigns_inside(x):
    def inner():
        global total
        total = x

    inner()


def assigns_in_a_class(x):
    class Inner:
        global total
        total = 1

    return Inner


def walrus(x):
    global total
    return [total := number for number in range(x)]


def loops(x):
    global total
    for total in range(x):  # noqa: B007
        pass


def unpacks(x):
    global total
    total, rest = x
    return rest


def appends(x):
    seen.append(x)


def appends_in_a_comprehension(x):
    return [seen.append(number) for number in range(x)]


def appends_inside(x):
    return lambda: seen.append(x)


def adds_to_a_set(x):
    names.add(x)


def caches(key):
    if key not in cache:
        cache[key] = len(key) if key else 0
    return cache[key]


def counts_up(key):
    counts[key] += 1


def deletes_an_item(key):
    del cache[key]


def replaces_a_slice(x):
    seen[1:2] = [x]


def pops(x):
    return last.popleft()


def fills_an_array(x):
    pixels[x] = 1


def adds_to_an_array(x):
    pixels[x : x + 2] += np.sqrt(x)


def sets_an_attribute_of_a_class(x):
    Settings.depth = x


def sets_an_attribute_of_an_object(x):
    settings.depth += x


def extends_a_list_of_its_own_kind(x):
    ledger.extend(x)


CHANGES = {
    adds: ("assigns to", "total"),
    assigns_in_a_branch: ("assigns to", "total"),
    deletes: ("deletes", "gone"),
    defines: ("assigns to", "helper"),
    assigns_inside: ("assigns to", "total"),
    assigns_in_a_class: ("assigns to", "total"),
    walrus: ("assigns to", "total"),
    loops: ("assigns to", "total"),
    unpacks: ("assigns to", "total"),
    appends: ("changes in place", "seen"),
    appends_in_a_comprehension: ("changes in place", "seen"),
    appends_inside: ("changes in place", "seen"),
    adds_to_a_set: ("changes in place", "names"),
    caches: ("changes in place", "cache"),
    counts_up: ("changes in place", "counts"),
    deletes_an_item: ("changes in place", "cache"),
    replaces_a_slice: ("changes in place", "seen"),
    pops: ("changes in place", "last"),
    fills_an_array: ("changes in place", "pixels"),
    adds_to_an_array: ("changes in place", "pixels"),
    sets_an_attribute_of_a_class: ("changes in place", "Settings"),
    sets_an_attribute_of_an_object: ("changes in place", "settings"),
    extends_a_list_of_its_own_kind: ("changes in place", "ledger"),
    Settings.deepen: ("changes in place", "Settings"),
}


@pytest.mark.parametrize("function", CHANGES, ids=lambda function: function.__name__)
def test_a_change_is_found(function: Any) -> None:
    (change,) = global_changes(function)
    assert (change.does, change.name) == CHANGES[function]
    assert change.where == "global"
    first = function.__code__.co_firstlineno
    assert first < change.line <= first + 5


def reads(x):
    return total + len(seen) + cache.get(x, 0) + pixels[0] + Settings.depth + counts["a"]


def copies(x):
    return sorted(seen), dict(cache), seen[:], pixels + 1, list(last)


def has_the_same_names(x):
    total = 1
    seen = []
    seen.append(total)
    cache = {}
    cache[x] = seen
    pixels = np.ones(3)
    pixels[0] = 2
    return total, seen, cache, pixels


def changes_a_parameter(x, seen, settings):
    seen.append(x)
    settings.depth = 3
    seen[0] = cache[x]


def uses_a_global_as_key_and_value(x):
    found = {}
    found[cache[x]] = seen
    found[len(seen) if x else 0] = cache
    found.setdefault(cache[x], []).append(seen)
    return found


def changes_what_a_method_returns(x):
    cache.get(x).append(1)
    seen[0].depth = 3
    cache[x][0] = 1
    sorted(seen).pop()


def changes_what_is_of_the_process(x):
    os.environ["A"] = "b"
    os.remove(x)
    mine.x = x
    log.level = 3
    log.setLevel(3)
    other.x = 3
    sys.path.append(x)
    np.random.seed(x)
    np.seterr(all="ignore")


def imports_when_needed(x):
    global json, join
    import json
    from os.path import join

    return json, join


def sets_itself(self):
    self.depth = 1
    self.limits["a"] = 1


def has_functions_with_state(x):
    count = 0
    found = []

    def inner():
        nonlocal count
        count += 1
        found.append(x)
        return lambda: found.append(count)

    return inner


def branches_inside_an_expression(x):
    found = {}
    (cache if x else found)[x] = 1
    (x and found)[x] = seen
    found[cache if x else 2] = 3
    (seen if x else []).append(x)
    return found


def uses_a_walrus(x):
    found = {}
    found[(key := x)] = cache
    found[key] = (value := seen)
    return value


def defined_later(x):
    later.append(x)


STILL = [
    reads, copies, has_the_same_names, changes_a_parameter, uses_a_global_as_key_and_value,
    changes_what_a_method_returns, changes_what_is_of_the_process, imports_when_needed, sets_itself,
    has_functions_with_state, branches_inside_an_expression, uses_a_walrus, defined_later,
    len, print, np.add, builtins.dict,
]  # fmt: skip
later: list[int] = []


@pytest.mark.parametrize("function", STILL[:-5], ids=lambda function: function.__name__)
def test_what_is_no_change_of_something_shared_is_not_reported(function: Any) -> None:
    assert global_changes(function) == []


def test_what_has_no_code_is_not_looked_into() -> None:
    assert [global_changes(function) for function in STILL[-4:]] == [[]] * 4


def test_a_variable_of_the_enclosing_function_is_told_as_such() -> None:
    count = 0
    found: list[int] = []
    table: dict[int, int] = {}

    def counts_calls(x):
        nonlocal count
        count += 1
        found.append(x)

        def deeper():
            nonlocal count
            found = {}
            table[x] = count
            found[x] = 1
            count = 3

            def deepest():
                found[0] = 1

            return deepest

        return deeper

    changes = {change.name: (change.does, change.where) for change in global_changes(counts_calls)}
    assert changes == {
        "count": ("assigns to", "enclosing"),
        "found": ("changes in place", "enclosing"),
        "table": ("changes in place", "enclosing"),
    }


def test_a_warning_names_file_line_task_name_and_remedy(submitter: Any) -> None:
    with pytest.warns(TaskWarning) as told:
        task(returns=1)(adds)
    (one,) = told
    assert (one.filename, one.lineno) == (__file__, adds.__code__.co_firstlineno + 2)
    text = str(one.message)
    assert text.startswith("task adds assigns to the global 'total': the change is visible only in that call")
    assert "Return the value" in text
    assert "INOUT" in text


def test_a_method_is_looked_into_where_its_class_is_not_made_yet(submitter: Any) -> None:
    with pytest.warns(TaskWarning, match=r"task .*Tally\.add changes in place .*enclosing function: 'Tally'"):

        class Tally:
            count = 0

            @task()
            def add(self, amount):
                Tally.count += amount

    source = "class Tally:\n    count = 0\n    @task()\n    def add(self, amount):\n        Tally.count += amount\n"
    with pytest.warns(TaskWarning, match=r"task Tally\.add changes in place the global 'Tally'"):
        exec(source, {"task": task, "__name__": "tallies"})


def test_what_a_decorator_wraps_is_looked_into(submitter: Any) -> None:
    import functools

    @functools.wraps(appends)
    def wrapper(x):
        return appends(x)

    with pytest.warns(TaskWarning, match="'seen'"):
        task(returns=0)(wrapper)


def test_outside_of_a_program_nothing_is_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task(returns=0)(appends)(1) is None
    assert seen.pop() == 1
