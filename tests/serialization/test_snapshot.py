"""A task sees the program as it is at the call, and the program's definitions stay the program's own."""

from __future__ import annotations

import contextvars
import enum
import functools
import threading
import types
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pytest

from runmem.errors import ArgumentError
from runmem.graph.task import TaskFunction, task

NAMES: dict[str, Any] = {}


def program(text: str) -> Any:
    """Return the names of a program that was run as ``__main__`` is."""
    module = types.ModuleType("__main__")
    module.__dict__["__name__"] = "__main__"
    exec(compile(text, "app.py", "exec"), module.__dict__)
    return module


# --- the present of the program ---------------------------------------------------------------------------------------


CHANGES = {
    "a global that a method reads": (
        "LIMIT = 1\nclass Box:\n    def get(self): return LIMIT\n@task(returns=1)\ndef f(): return Box().get()\n",
        "LIMIT = 2",
    ),
    "a global that a property reads": (
        "LIMIT = 1\nclass Box:\n    @property\n    def got(self): return LIMIT\n"
        "@task(returns=1)\ndef f(): return Box().got\n",
        "LIMIT = 2",
    ),
    "a global that a static method of a base class reads": (
        "LIMIT = 1\nclass Base:\n    @staticmethod\n    def get(): return LIMIT\nclass Box(Base): pass\n"
        "@task(returns=1)\ndef f(): return Box.get()\n",
        "LIMIT = 2",
    ),
    "an attribute of a base class": (
        "class Base: value = 1\nclass Box(Base): pass\n@task(returns=1)\ndef f(): return Box.value\n",
        "Base.value = 2",
    ),
    "an attribute of a class that is an attribute of a class": (
        "class Settings: value = 1\nclass Box: settings = Settings\n"
        "@task(returns=1)\ndef f(): return Box.settings.value\n",
        "Settings.value = 2",
    ),
    "a class attribute that changes in place": (
        "class Box: values = [1]\n@task(returns=1)\ndef f(): return Box.values[-1]\n",
        "Box.values.append(2)",
    ),
    "a class attribute that is replaced by an equal one of another type": (
        "class Box: value = 1\n@task(returns=1)\ndef f(): return type(Box.value).__name__ == 'bool' and 2 or 1\n",
        "Box.value = True",
    ),
    "an attribute that a class did not have": (
        "class Box: pass\n@task(returns=1)\ndef f(): return getattr(Box, 'value', 1)\n",
        "Box.value = 2",
    ),
    "an attribute that a class has no more": (
        "class Base: value = 2\nclass Box(Base): value = 1\n@task(returns=1)\ndef f(): return Box.value\n",
        "del Box.value",
    ),
    "a method that is replaced": (
        "class Box:\n    def get(self): return 1\n@task(returns=1)\ndef f(): return Box().get()\n",
        "Box.get = lambda self: 2",
    ),
    "an attribute of a function": (
        "def helper(): pass\nhelper.value = 1\n@task(returns=1)\ndef f(): return helper.value\n",
        "helper.value = 2",
    ),
    "an attribute of the task": ("@task(returns=1)\ndef f(): return f.value\nf.value = 1\n", "f.value = 2"),
    "the defaults of a function": (
        "def helper(x=1): return x\n@task(returns=1)\ndef f(): return helper()\n",
        "helper.__defaults__ = (2,)",
    ),
    "a default that changes in place": (
        "def helper(x=[1]): return x[-1]\n@task(returns=1)\ndef f(): return helper()\n",
        "helper.__defaults__[0].append(2)",
    ),
    "the code of a function": (
        "def helper(): return 1\n@task(returns=1)\ndef f(): return helper()\n",
        "helper.__code__ = (lambda: 2).__code__",
    ),
    "a variable of an enclosing function": (
        "def make():\n    value = 1\n    def get(): return value\n"
        "    def change():\n        nonlocal value\n        value = 2\n    return get, change\n"
        "get, change = make()\n@task(returns=1)\ndef f(): return get()\n",
        "change()",
    ),
    "a global of a function that a partial calls": (
        "import functools\nLIMIT = 1\ndef helper(x): return x * LIMIT\np = functools.partial(helper, 1)\n"
        "@task(returns=1)\ndef f(): return p()\n",
        "LIMIT = 2",
    ),
    "a global of a bound method": (
        "LIMIT = 1\nclass Box:\n    def get(self): return LIMIT\nget = Box().get\n"
        "@task(returns=1)\ndef f(): return get()\n",
        "LIMIT = 2",
    ),
    "an object": (
        "class Box: pass\nbox = Box()\nbox.value = 1\n@task(returns=1)\ndef f(): return box.value\n",
        "box.value = 2",
    ),
    "a global that comes to be": (
        "@task(returns=1)\ndef f():\n    try:\n        return LATE\n    except NameError:\n        return 1\n",
        "LATE = 2",
    ),
    "a context variable": (
        "import contextvars\nv = contextvars.ContextVar('v', default=1)\n@task(returns=1)\ndef f(): return v.get()\n",
        "v.set(2)",
    ),
    "what a cached function reads": (
        "import functools\nLIMIT = 1\n@functools.lru_cache\ndef helper(): return LIMIT\n"
        "@task(returns=1)\ndef f(): return helper()\n",
        "LIMIT = 2; helper.cache_clear()",
    ),
    "a function that another one takes the place of": (
        "def helper(): return 1\n@task(returns=1)\ndef f(): return helper()\n",
        "def helper(): return 2",
    ),
    "a value that becomes a function": (
        "helper = 1\n@task(returns=1)\ndef f(): return helper() if callable(helper) else helper\n",
        "helper = lambda: 2",
    ),
    "a metaclass's attribute": (
        "class Meta(type): value = 1\nclass Box(metaclass=Meta): pass\n@task(returns=1)\ndef f(): return Box.value\n",
        "Meta.value = 2",
    ),
}


@pytest.mark.parametrize(("text", "change"), CHANGES.values(), ids=CHANGES)
def test_a_task_sees_what_the_program_has_changed(carrier: Any, text: str, change: str) -> None:
    app = program("from runmem.graph.task import task\n" + text)
    assert carrier.call(app.f) == 1
    assert carrier.call(app.f) == 1
    exec(change, app.__dict__)
    assert app.f.function() == 2
    assert carrier.call(app.f) == 2


@pytest.mark.parametrize(("text", "change"), CHANGES.values(), ids=CHANGES)
def test_what_is_given_to_a_task_is_as_the_program_has_it(carrier: Any, text: str, change: str) -> None:
    """The same through an argument: the class or function is not one that the task itself refers to."""
    app = program("from runmem.graph.task import task\n" + text + "@task(returns=1)\ndef apply(g): return g()\n")
    assert carrier.call(app.apply, app.f) == 1
    exec(change, app.__dict__)
    assert carrier.call(app.apply, app.f) == 2


def test_an_outline_is_packed_once_while_it_holds(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\nclass Box:\n    count = 0\n    names = []\nstep = 0\n"
        "@task(returns=1)\ndef f(box): return step, Box.count, Box.names\n"
    )
    for step in range(5):
        app.step, app.Box.count = step, step
        app.Box.names.append(step)
        assert carrier.call(app.f, app.Box()) == (step, step, list(range(step + 1)))
    assert len(set(carrier.outlines)) == 1


def test_a_task_that_can_be_imported_needs_no_outline(carrier: Any) -> None:
    assert carrier.call(at_the_top, 2) == 3
    assert carrier.outlines == [None]


@task(returns=1)
def at_the_top(value):
    return value + 1


# --- definitions belong to one process --------------------------------------------------------------------------------


def test_a_result_is_of_the_program_s_own_class_which_stays_as_it_is(carrier: Any) -> None:
    class Node:
        count = 0
        registry: list[str] = []

        def __init__(self, name):
            self.name = name
            Node.count += 1
            Node.registry.append(name)

    @task(returns=1)
    def upper(node):
        return Node(node.name.upper())

    given = Node("a")
    version = carrier.submit(upper, given)
    later = Node("b")
    result = carrier.value(version)
    assert type(result) is Node
    assert result.name == "A"
    assert (Node.count, Node.registry, later.name) == (2, ["a", "b"], "b")


def test_closures_of_methods_are_not_cut_off(carrier: Any) -> None:
    log: list[str] = []

    class Box:
        def __init__(self):
            log.append("made")

    @task(returns=1)
    def same(box):
        return box

    result = carrier.call(same, Box())
    Box()
    assert log == ["made", "made"]
    assert type(result) is Box


def test_functions_and_classes_come_back_as_the_program_s_own(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\nimport enum\nclass A: pass\nclass Color(enum.Enum):\n    RED = 1\n"
        "def g(): return 1\n@task(returns=1)\ndef give(): return A, g, give, Color.RED, [A().__class__]\n"
    )
    assert carrier.call(app.give) == (app.A, app.g, app.give, app.Color.RED, [app.A])


def test_hooks_that_run_when_a_class_is_made_do_not_run_again(carrier: Any) -> None:
    made: list[str] = []

    class Meta(type):
        def __new__(cls, name, bases, names, **more):
            made.append(f"meta {name}")
            return super().__new__(cls, name, bases, names, **more)

        def __init__(cls, name, bases, names, **more):
            super().__init__(name, bases, names)

    class Plugin(metaclass=Meta):
        names: list[str] = []

        def __init_subclass__(cls, *, key, **more):
            made.append(f"sub {cls.__name__}")
            Plugin.names.append(key)

    class Csv(Plugin, key="csv"):
        pass

    @task(returns=1)
    def names(plugin):
        return Plugin.names, made, type(plugin).__name__

    assert carrier.call(names, Csv()) == (["csv"], ["meta Plugin", "meta Csv", "sub Csv"], "Csv")
    assert made == ["meta Plugin", "meta Csv", "sub Csv"]


def test_what_a_call_sets_in_definitions_is_taken_back(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\nclass Box:\n    count = 0\ntotal = 0\nseen = []\n"
        "def helper(): pass\nhelper.calls = 0\n"
        "@task(returns=1)\ndef change():\n    global total, fresh\n    total += 1; fresh = 1\n    seen.append(total)\n"
        "    Box.count += 1; Box.extra = 1\n    helper.calls += 1; helper.extra = 1\n"
        "    return total, len(seen), Box.count, helper.calls\n"
        "@task(returns=1)\ndef look():\n"
        "    return total, len(seen), Box.count, helper.calls, hasattr(Box, 'extra'), hasattr(helper, 'extra'),\\\n"
        "        'fresh' in globals(), change\n"
    )
    for _ in range(3):
        assert carrier.call(app.change) == (1, 1, 1, 1)
        assert carrier.call(app.look)[:-1] == (0, 0, 0, 0, False, False, False)
    assert (app.total, app.seen, app.Box.count) == (0, [], 0)


def test_a_class_replaced_while_a_call_waits_is_as_it_was_for_that_call(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\nclass Box:\n    def get(self): return 1\n"
        "@task(returns=1)\ndef make(): return Box()\n"
        "@task(returns=1)\ndef use(box): return box.get(), type(box) is Box\n"
    )
    box = carrier.submit(app.make)
    assert carrier.call(app.use, box) == (1, True)
    app.Box.get = lambda self: 2
    assert carrier.call(app.use, box) == (2, True)  # an object made before, as in plain Python
    assert carrier.value(box).get() == 2


def test_results_reach_tasks_that_do_not_name_their_class(carrier: Any) -> None:
    class Box:
        value = 5

    @task(returns=1)
    def make():
        return [Box()]

    @task(returns=1)
    def look(boxes):
        return boxes[0].value

    made = carrier.submit(make)
    del make
    Box.value = 6
    assert carrier.call(look, made) == 6


GIVEN_ON = {
    "an object of the program that holds it": (
        "class Model: pass\nmodel = Model()\nmodel.kernel = square\n"
        "@task(returns=1)\ndef fit(model): return model\nfirst = (model,)\n"
        "@task(returns=1)\ndef use(model): return model.kernel(3)\n"
    ),
    "a task that chooses it": (
        "@task(returns=1)\ndef fit(): return square\nfirst = ()\n@task(returns=1)\ndef use(kernel): return kernel(3)\n"
    ),
    "a table of the program": (
        "kernels = {'square': square}\n@task(returns=1)\ndef fit(): return kernels['square']\nfirst = ()\n"
        "@task(returns=1)\ndef use(kernel): return kernel(3)\n"
    ),
    "a function made by the task, which calls it": (
        "@task(returns=1)\ndef fit(): return [lambda x: square(x)]\nfirst = ()\n"
        "@task(returns=1)\ndef use(kernels): return kernels[0](3)\n"
    ),
    "a variable of an enclosing function": (
        "def over(kernel):\n    @task(returns=1)\n    def fit(): return kernel\n    return fit\n"
        "fit = over(square)\nfirst = ()\n"
        "@task(returns=1)\ndef use(kernel): return kernel(3)\n"
    ),
    "the task itself": (
        "@task(returns=1)\ndef fit(): return [fit, square]\nfirst = ()\n"
        "@task(returns=1)\ndef use(found): return found[1](len(found) + 1)\n"
    ),
}


@pytest.mark.parametrize("text", GIVEN_ON.values(), ids=GIVEN_ON)
def test_a_function_in_a_result_is_there_for_a_task_that_does_not_name_it(carrier: Any, text: str) -> None:
    app = program("from runmem.graph.task import task\nOFFSET = 0\ndef square(x): return x * x + OFFSET\n" + text)
    made = carrier.submit(app.fit, *app.first)
    app.OFFSET = 1
    assert carrier.call(app.use, made) == 10


def test_functions_that_a_task_only_calls_do_not_go_to_those_that_are_given_its_result(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\ntable = list(range(1000))\ndef look(x): return table[x]\n"
        "@task(returns=1)\ndef find(x): return look(x)\n@task(returns=1)\ndef double(x): return 2 * x\n"
    )
    found = carrier.submit(app.find, 7)
    assert b"look" in carrier.outlines[-1]
    assert carrier.call(app.double, found) == 14
    assert b"look" not in carrier.outlines[-1]
    assert len(carrier.data[-1]) < 200  # without the table


def test_functions_made_in_a_task_use_the_globals_where_they_arrive(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\nFACTOR = 2\n"
        "@task(returns=1)\ndef make(add): return lambda x: x * FACTOR + add\n"
        "@task(returns=1)\ndef apply(g, x): return g(x)\n"
    )
    made = carrier.submit(app.make, 1)
    assert carrier.call(app.apply, made, 10) == 21
    function = carrier.value(made)
    app.FACTOR = 3
    assert function(10) == 31
    assert function.__globals__ is app.__dict__ or function.__globals__["FACTOR"] == 3


def test_functions_and_tasks_in_results_reach_tasks_that_do_not_name_them(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\nFACTOR = 2\n"
        "def helper(x): return x * FACTOR\ndef g(x): return helper(x) + 1\n"
        "class Box:\n    def get(self): return g(1)\n"
        "@task(returns=1)\ndef t(x): return g(x)\n@task(returns=1)\ndef make(): return g, t, [Box]\n"
        "@task(returns=1)\ndef apply(made): return made[0](5), made[1](6), made[2][0]().get(), made\n"
    )
    made = carrier.submit(app.make)
    first, second, third, again = carrier.call(app.apply, made)
    assert (first, second, third) == (11, 13, 3)
    assert again == (app.g, app.t, [app.Box])


def test_cells_are_shared_as_in_the_program(carrier: Any) -> None:
    def make():
        count = 0

        def add():
            nonlocal count
            count += 1

        def get():
            return count

        return add, get

    add, get = make()

    @task(returns=1)
    def twice():
        add()
        add()
        return get()

    assert carrier.call(twice) == 2
    assert carrier.call(twice) == 2
    assert get() == 0


# --- kinds of definitions ---------------------------------------------------------------------------------------------


def test_classes_of_all_kinds_arrive_as_they_are(carrier: Any) -> None:  # noqa: C901
    kind = TypeVar("kind")

    class Slotted:
        __slots__ = ("a", "b", "__weakref__", "__hidden")

        def __init__(self, a):
            self.a = a
            self.__hidden = a + 1

        def hidden(self):
            return self.__hidden

    class Child(Slotted):
        __slots__ = "c"

    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: list[int] = field(default_factory=list)

    @dataclass(order=True)
    class Plain:
        x: int = 3

    class Pair(NamedTuple):
        first: int
        second: str = "b"

    Old = namedtuple("Old", "a b")

    class Shape(ABC):
        @abstractmethod
        def area(self): ...

    class Square(Shape):
        def area(self):
            return 4

    class Color(enum.IntFlag):
        RED = 1
        BLUE = 2

    class Planet(enum.Enum):
        EARTH = (1, 2)

        def __init__(self, mass, radius):
            self.mass = mass
            self.radius = radius

        @property
        def sum(self):
            return self.mass + self.radius

    class Box(Generic[kind]):
        def __init__(self, value: kind) -> None:
            self.value = value

    class Error(Exception):
        def __init__(self, code):
            super().__init__(code)
            self.code = code

    class Calls(Square):
        def area(self):
            return super().area() + 1

    @task(returns=1)
    def look(slotted, child, point, plain, pair, old, square, color, planet, box, error, calls):
        assert type(slotted) is Slotted
        assert type(point) is Point
        assert type(planet) is Planet
        assert type(box) is Box
        assert not hasattr(slotted, "__dict__")
        assert not hasattr(child, "__dict__")
        assert not hasattr(point, "__dict__")
        with pytest.raises(TypeError, match="abstract"):
            Shape()
        with pytest.raises(AttributeError):
            slotted.wrong = 1
        with pytest.raises(AttributeError):
            point.x = 5
        assert isinstance(square, Shape)
        assert Planet.EARTH is planet
        assert color == Color.RED | Color.BLUE
        seen = [slotted.hidden(), child.c, point.y, plain < Plain(4), pair.second, old.b, square.area(), int(color)]
        return [*seen, planet.sum, box.value, str(error), error.code, calls.area()], Child(7), Point(1, [2]), Pair(1)

    child = Child(1)
    child.c = 2
    sent = (
        Slotted(5), child, Point(1, [3]), Plain(), Pair(1), Old(1, 2), Square(), Color.RED | Color.BLUE, Planet.EARTH,
        Box[int](6), Error(8), Calls(),
    )  # fmt: skip
    seen, made, point, pair = carrier.call(look, *sent)
    assert seen == [6, 2, [3], True, "b", 2, 4, 3, 3, 6, "8", 8, 5]
    assert (type(made), made.a, point, pair) == (Child, 7, Point(1, [2]), Pair(1))


def test_what_the_library_makes_of_functions_arrives(carrier: Any) -> None:
    @functools.lru_cache(maxsize=7)
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    @functools.singledispatch
    def kind(x):
        return "object"

    @kind.register
    def _(x: int):
        return "int"

    class Box:
        @functools.cached_property
        def cached(self):
            return 5

        @functools.lru_cache  # noqa: B019
        def method(self, x):
            return x * 2

        part = functools.partialmethod(lambda self, a, b: a + b, 1)

        @functools.singledispatchmethod
        def by_kind(self, x):
            return "object"

        @by_kind.register
        def _(self, x: int):
            return "int"

        @classmethod
        def make(cls):
            return cls()

    variable = contextvars.ContextVar("variable", default=[1])  # noqa: B039
    unset = contextvars.ContextVar("unset")

    @task(returns=1)
    def use():
        box = Box.make()
        return (
            fib(20), fib.cache_parameters()["maxsize"], kind(1), kind("a"), box.cached, box.method(2), box.part(3),
            box.by_kind(1), box.by_kind("a"), variable.get(), unset.get("none"),
        )  # fmt: skip

    expected = (6765, 7, "int", "object", 5, 4, 4, "int", "object", [1], "none")
    assert carrier.call(use) == expected
    variable.set([2])
    unset.set("some")
    assert carrier.call(use) == (*expected[:-2], [2], "some")


def test_a_task_over_such_a_function_arrives(carrier: Any) -> None:
    @task(returns=1)
    @functools.lru_cache
    def direct(n):
        return n + 1

    @functools.lru_cache
    @task(returns=1)
    def under(n):
        return n + 2

    @task(returns=1)
    def use(n):
        return under(n)

    assert (carrier.call(direct, 1), carrier.call(use, 1)) == (2, 3)


def test_weak_references_arrive(carrier: Any) -> None:
    class Node:
        pass

    node = Node()
    node.value = 5
    by_name = weakref.WeakValueDictionary({"a": node})
    by_node = weakref.WeakKeyDictionary({node: 6})

    @task(returns=1)
    def look(node, reference, by_name, by_node):
        return reference() is node, by_name["a"].value, by_node[node]

    assert carrier.call(look, node, weakref.ref(node), by_name, by_node) == (True, 5, 6)


def test_functions_of_a_circle_and_deep_chains_arrive(carrier: Any) -> None:
    text = "from runmem.graph.task import task\ndef f0(): return 0\n"
    text += "".join(f"def f{i}(): return f{i - 1}() + 1 if {i} % 100 else {i}\n" for i in range(1, 2000))
    app = program(text + "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\n"
                         "@task(returns=1)\ndef last(): return f1999(), even(10)\n")  # fmt: skip
    assert carrier.call(app.last) == (1999, True)


def test_a_module_s_local_function_takes_its_globals_along(
    carrier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_with_maker.py").write_text(
        "SETTING = 1\ndef make():\n    def inner(): return SETTING\n    return inner\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import module_with_maker

    inner = module_with_maker.make()

    @task(returns=1)
    def use():
        return inner()

    assert carrier.call(use) == 1
    module_with_maker.SETTING = 2
    assert carrier.call(use) == 2


def test_tasks_may_refer_to_themselves_and_to_other_tasks(carrier: Any) -> None:
    @task(returns=1)
    def double(x):
        return 2 * x

    @task(returns=1)
    def factorial(n):
        return double(n) // 2 * factorial(n - 1) if n else 1

    assert carrier.call(factorial, 5) == 120
    assert isinstance(factorial, TaskFunction)


# --- values -----------------------------------------------------------------------------------------------------------


def test_objects_that_globals_and_arguments_share_stay_shared(carrier: Any) -> None:
    shared: list[int] = [1]
    holder = {"a": shared, "b": shared}

    @task(returns=1)
    def look(given, again):
        given.append(2)
        return holder["a"] is holder["b"] is shared, given is again is shared, shared

    assert carrier.call(look, shared, shared) == (True, True, [1, 2])
    assert shared == [1]


def test_a_large_global_is_sent_once_and_let_go_when_it_has_changed(carrier: Any) -> None:
    table = np.zeros(100_000)
    words = {f"word {number}": number for number in range(50_000)}

    @task(returns=1)
    def look(i):
        return float(table[i]), words[f"word {i}"], not table.flags.writeable

    for _ in range(3):
        assert carrier.call(look, 5) == (0.0, 5, True)
    assert len(carrier.sent) == 2
    assert max(map(len, carrier.data)) < 1000
    for number in range(1, 4):
        table[5] = number
        assert carrier.call(look, 5) == (number, 5, True)
    assert len(carrier.sent) == 5
    assert len(carrier.large._kept) == 2


def test_a_large_global_may_be_written_to_where_inputs_are_copied(copying_carrier: Any) -> None:
    table = np.zeros(100_000)

    @task(returns=1)
    def change():
        table[0] += 1
        return float(table[0])

    assert [copying_carrier.call(change) for _ in range(2)] == [1.0, 1.0]
    assert table[0] == 0


def test_what_cannot_be_pickled_is_named_with_what_to_do(carrier: Any) -> None:
    lock = threading.Lock()
    items = (number for number in range(3))

    @task(returns=1)
    def locked(x):
        with lock:
            return x

    @task(returns=1)
    def itemised():
        return list(items)

    with pytest.raises(ArgumentError, match=r"locked \(.*py:\d+\) cannot be sent .*type lock.*A lock guards nothing"):
        carrier.call(locked, 1)
    with pytest.raises(ArgumentError, match=r"itemised \(.*py:\d+\) cannot be sent .*generator.*into a list first"):
        carrier.call(itemised)
    app = program(
        "from runmem.graph.task import task\nTABLE = open('/dev/null', 'w')\n@task(returns=1)\ndef f(): TABLE\n"
    )
    with pytest.raises(ArgumentError, match=r"f \(.*\) cannot be sent .*global 'TABLE'.*Pass the path"):
        carrier.call(app.f)


def test_a_class_whose_objects_answer_for_their_class_or_name_travels(carrier: Any) -> None:
    app = program(
        "from runmem.graph.task import task\n"
        "class Proxy:\n"
        "    def __init__(self, value): self.value = value\n"
        "    @property\n"
        "    def __class__(self): return kind_of(self)\n"
        "    @property\n"
        "    def __name__(self): return f'{__class__.__qualname__} of {self.value!r}'\n"
        "class Named: __name__ = 'text'\n"
        "def kind_of(proxy): return type(proxy.value)\n"
        "@task(returns=3)\n"
        "def f(value):\n"
        "    proxy = Proxy(value)\n"
        "    return isinstance(proxy, int), proxy.__name__, (Named().__name__, Proxy('s').__class__)\n"
    )
    for _ in range(2):
        version = carrier.submit(app.f, 3)
        assert [carrier.value(version, output) for output in range(3)] == [True, "Proxy of 3", ("text", str)]


RAISING = """
from enum import Enum
from pathlib import PosixPath
from runmem.graph.task import task
class Raising:
    def __reduce_ex__(self, protocol): raise ERROR
class Place(PosixPath):
    __reduce__ = __reduce_ex__ = Raising.__reduce_ex__
class Colour(Enum):
    RED = 1
    __reduce_ex__ = Raising.__reduce_ex__
class Asked:
    @property
    def __class__(self): raise ERROR
"""
REFERRING = {
    "a path": "USED = Place('x')\n@task(returns=1)\ndef f(): return USED\n",
    "a member of an enumeration": "USED = (1, Colour.RED)\n@task(returns=1)\ndef f(): return USED\n",
    "a value that can change": "USED = [Raising()]\n@task(returns=1)\ndef f(): return USED\n",
    "an attribute of a class": "class Box: used = Raising()\n@task(returns=1)\ndef f(): return Box.used\n",
    "a default": "@task(returns=1)\ndef f(used=Place('x')): return used\n",
    "a value that answers for its class": "USED = Asked()\n@task(returns=1)\ndef f(): return USED\n",
    "a value that comes later": "USED = 1\n@task(returns=1)\ndef f(): return USED\n",
}  # fmt: skip


@pytest.mark.parametrize("name", REFERRING)
def test_a_call_is_refused_whatever_a_value_that_its_task_refers_to_raises(name: str, carrier: Any) -> None:
    for error in ("TypeError", "SystemExit", "KeyboardInterrupt", "GeneratorExit"):
        app = program(RAISING.replace("ERROR", f"{error}('e')") + REFERRING[name])
        if name == "a value that comes later":
            assert carrier.call(app.f) == 1
            app.USED = app.Place("x")
        with pytest.raises(ArgumentError, match=rf"f \(.*py:\d+\) cannot be sent .*not be pickled \({error}: e\)"):
            carrier.call(app.f)


def test_definitions_that_nobody_needs_are_let_go(carrier: Any) -> None:
    import gc

    @task(returns=1)
    def apply(value):
        return 1

    def call_with_own_class() -> weakref.ref[Any]:
        class Own:
            pass

        carrier.call(apply, OrderedDict(a=Own()))
        return weakref.ref(Own)

    references = [call_with_own_class() for _ in range(200)]
    carrier.kept.clear()
    gc.collect()
    assert sum(reference() is not None for reference in references) < 150


def test_functions_made_for_each_call_do_not_make_new_outlines(carrier: Any) -> None:
    @task(returns=1)
    def apply(function, x):
        return function(x)

    assert [carrier.call(apply, lambda x, i=i: x + i, 1) for i in range(5)] == [1, 2, 3, 4, 5]
    assert len(set(carrier.outlines)) == 1
