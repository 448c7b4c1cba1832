"""Of what generated programs are made: functions that they all have, and kinds of classes and tasks to choose from."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CLASSES", "HELPERS", "NAMES", "PRELUDE", "TASKS"]

PRELUDE = '''\
import contextvars
import enum
import functools
import os
import sys
import tempfile
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runmem import FILE_IN, FILE_INOUT, FILE_OUT, IN, INOUT, barrier, open_file, task, wait_on, wait_on_file
from runmem.graph.directions import COLLECTION_FILE_INOUT, COLLECTION_INOUT, DICTIONARY_OUT, Depth, Type
from runmem.graph.groups import TaskGroup
from runmem.graph.synchronise import delete_file, delete_object
from runmem.graph.future import Future

place = tempfile.mkdtemp(dir=globals().get("folder", "."))
one, two, three = os.path.join(place, "one"), Path(place, "two"), os.path.join(place, "new", "three")
Path(one).write_text("first")


class Trouble(Exception):
    def __init__(self, place, reason):
        super().__init__(f"{place}: {reason}")
        self.place = place


def fields_of(value):
    """Return what an object holds, by name, wherever its class keeps it."""
    names = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    return {name: getattr(value, name) for name in [*names, *getattr(value, "__dict__", ())] if hasattr(value, name)}


def told(value, seen=None):
    """Return a value as text; an object that comes again is told by the number of its first place."""
    seen = {} if seen is None else seen
    if isinstance(value, enum.Enum) or value is None or isinstance(value, (int, float, str)):
        return str(value)
    if isinstance(value, type):
        return f"class {value.__name__}"
    if isinstance(value, (types.FunctionType, type(cached))):
        return f"{value.__name__}(2) = {told(value(2))}"
    if callable(value) or type(value) is Future:
        return type(value).__name__
    if type(value) is not tuple:
        if id(value) in seen:
            return f"<{seen[id(value)]}>"
        seen[id(value)] = len(seen)
    if isinstance(value, np.ndarray):
        return f"array{value.shape} of {int(value.sum())}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {told(item, seen)}" for key, item in value.items()) + "}"
    if isinstance(value, set):
        return f"set{sorted(value)}"
    if isinstance(value, (list, tuple)):
        return type(value).__name__ + "[" + ", ".join(told(item, seen) for item in value) + "]"
    own = ", ".join(f"{name}={told(item, seen)}" for name, item in fields_of(value).items())
    return f"{type(value).__name__}({own})"


def weight(value, seen=None):
    """Return a number that depends on all that a value holds."""
    seen = set() if seen is None else seen
    if isinstance(value, (bool, int)):
        return value % 1009
    if isinstance(value, str):
        return len(value)
    if isinstance(value, np.ndarray):
        return int(value.sum()) % 1009
    if id(value) in seen or isinstance(value, (type, enum.Enum)) or callable(value) and not fields_of(value):
        return 1
    seen.add(id(value))
    items = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (list, tuple, dict, set)):
        items = fields_of(value).values()
    return sum(weight(item, seen) for item in items) % 1009


def change(value, by):
    """Change the first thing in a value that can be; return what came of it."""
    try:
        if isinstance(value, list):
            if value and by % 2 and change(value[0], by) != "nothing":
                return "inside"
            value.append(by)
        elif isinstance(value, dict):
            value[f"by{by}"] = by
        elif isinstance(value, set):
            value.add(by)
        elif isinstance(value, np.ndarray):
            value += by
        elif isinstance(value, tuple):
            return next((made for item in value if (made := change(item, by)) != "nothing"), "nothing")
        elif hasattr(value, "grow") and not isinstance(value, type):
            value.grow(by)
        else:
            return "nothing"
    except (ValueError, AttributeError) as error:
        return type(error).__name__
    return "changed"


def show(name, value):
    """Print what tasks made of a value, and whether it can be changed."""
    try:
        made = wait_on(value)
        print(name, told(made), change(made, 2))
    except Exception as error:
        print(name, type(error).__name__, error, isinstance(error, Trouble))


def meet():
    """Wait for all tasks."""
    try:
        barrier()
    except Exception:
        print("a task has failed")
'''

HELPERS = {
    "weigh": '''\
        def weigh(number):
            return number * 3 + level
        ''',
    "other_weigh": '''\
        def other_weigh(number, offset=[5]):
            return number + offset[0] + weigh.bonus if hasattr(weigh, "bonus") else number
        ''',
    "make_counter": '''\
        def make_counter(start):
            history, calls = [start], 0

            def count(step=1):
                nonlocal calls
                calls += 1
                if step % 2:
                    history.append(history[-1] + step)

            def peek():
                return history[-1] * 10 + calls

            return count, peek
        ''',
    "make_scale": '''\
        def make_scale(factor):
            def scaled(value):
                return [weight(value) * factor]

            return scaled
        ''',
    "cached": '''\
        @functools.lru_cache
        def cached(number):
            return number * number
        ''',
    "is_even": '''\
        def is_even(number):
            return number == 0 or is_odd(number - 1)


        def is_odd(number):
            return number != 0 and is_even(number - 1)
        ''',
}  # fmt: skip

CLASSES: list[Callable[[int], str]] = [
    lambda n: (
        f"""\
        class Box{n}:
            scale = {n + 2}
            log = [{n}]

            def __init__(self, items):
                self.items = items
                self.total = 0

            def grow(self, by):
                self.total += by * self.scale
                change(self.items, by)

            def size(self):
                return self.total + self.scale + len(self.log) + self.rank()

            @classmethod
            def rank(cls):
                return len(cls.__name__) + cls.scale

            @task(returns=1, target_direction=INOUT)
            def add(self, by):
                self.grow(by)
                return self.size()

            @task(returns=1, target_direction=IN)
            def look(self, by):
                change(self, by)
                return told(self)
        """
    ),
    lambda n: (
        f"""\
        class Pair{n}:
            __slots__ = ("left", "right")
            scale = 1

            def __init__(self, left, right=None):
                self.left = left
                self.right = left if right is None else right

            def grow(self, by):
                change(self.right, by + self.scale)

            def size(self):
                return self.scale + weight(self.left)
        """
    ),
    lambda n: (
        f"""\
        @dataclass
        class Cell{n}:
            content: object
            notes: list = field(default_factory=list)
            scale = 7

            def grow(self, by):
                self.notes.append(by)

            def size(self):
                return len(self.notes) + self.scale
        """
    ),
    lambda n: (
        f"""\
        @dataclass(frozen=True)
        class Fixed{n}:
            content: object
            scale = 3

            def grow(self, by):
                self.content = by

            def size(self):
                return weight(self.content) + self.scale
        """
    ),
    lambda n: (
        f"""\
        class Plugin{n}:
            known = {{}}
            scale = 1

            def __init_subclass__(cls, **given):
                super().__init_subclass__(**given)
                Plugin{n}.known[cls.__name__] = len(Plugin{n}.known)

            def __init__(self, content):
                self._content = content

            @property
            def content(self):
                return self._content

            @content.setter
            def content(self, value):
                self._content = value

            def grow(self, by):
                self.content = [self.content, by]

            def size(self):
                return self.scale + len(self.known)


        class Deeper{n}(Plugin{n}):
            def size(self):
                return super().size() * 2 + self.known[type(self).__name__]

            def __getstate__(self):
                return {{"kept": self._content}}

            def __setstate__(self, state):
                self._content = state["kept"]
        """
    ),
]
NAMES = ("Box", "Pair", "Cell", "Fixed", "Deeper")

TASKS = """

    @task(returns=2)
    def both(first):
        return [first, first], told(first)


    @task(returns=1)
    def apply(function, value):
        return [function(value), level] if function is not make_counter else []


    @task(returns=1)
    def spoil(value, by):
        return [change(value, by), value, change([value], by)]


    @task(returns=1)
    def nested(value):
        return [both(value), told(apply(weigh, 3))]


    @task(value=INOUT)
    def grow(value, by):
        change(value, weight(by) + level)


    @task(path=FILE_OUT, returns=1)
    def store(path, value):
        Path(path).write_text(told(value))
        return weight(value)


    @task(path=FILE_INOUT, returns=1)
    def extend(path, value):
        with open(path, "a") as file:
            file.write(f"+{told(value)}")
        return Path(path).read_text()[:30]


    @task(path=FILE_IN, returns=1)
    def load(path, value):
        return [Path(path).read_text(), os.path.basename(path), value]


    @task(source=FILE_IN, target=FILE_OUT)
    def copy_file(source, target):
        Path(target).write_text(f"<{Path(source).read_text()}>")


    @task(values=COLLECTION_INOUT)
    def grow_each(values, by):
        for number, value in enumerate(values):
            if number % 2 or not isinstance(value, list):
                values[number] = [value, weight(by)]
            else:
                value.append(by)


    @task(rows={Type: COLLECTION_INOUT, Depth: 2}, returns=1)
    def swap(rows, by):
        for row in rows:
            row.reverse()
        return weight(rows)


    @task(table=DICTIONARY_OUT)
    def fill(table, by):
        for key in table:
            table[key] = [key, by]


    @task(paths=COLLECTION_FILE_INOUT)
    def extend_all(paths, value):
        for path in paths:
            with open(path, "a") as file:
                file.write(f"-{told(value)}")


    @task(returns=1)
    def steps(number):
        for step in range(number):
            yield [step, level]


    @task(values=INOUT, returns=2, on_failure="IGNORE", defaults={"returns": [7, None]})
    def may_fail(values, by):
        change(values, by)
        if by % 2:
            raise ValueError(by)
        return weight(values), told(values)


    @task(returns=1)
    def block(number):
        return np.arange(40_000) % (number + 2)


    @task(returns=1)
    def wrapped(number):
        return {"k": np.full(40_000, number), "m": [np.arange(50_000), number]}


    @task(returns=1)
    def part(value, whole):
        value = value["k"] if isinstance(value, dict) else value
        return value if whole or not isinstance(value, np.ndarray) else value[: len(value) - 3]


    @task(value=INOUT)
    def add_to_all(value, by):
        for each in [value["k"], value["m"][0]] if isinstance(value, dict) and "m" in value else [value]:
            change(each, by)


    @task(value=INOUT, returns=1)
    def change_and_give(value, by):
        change(value, by)
        return value


    @task(value=INOUT, on_failure="RETRY")
    def change_again(value, by, name):
        change(value, by)
        tried = Path(place, f"tried-{name}")
        if not tried.exists():
            tried.touch()
            raise ValueError(by)


    @task(value=INOUT, on_failure="IGNORE")
    def change_and_raise(value, by):
        change(value, by)
        raise ValueError(by)


    @task(returns=1)
    def fail(value, kind, name):
        change(value, kind)
        if kind == 0:
            raise ValueError(f"{name} was given {weight(value)}")
        if kind == 1:
            raise Trouble(name, weight(value))
        return {}[name]


    """
