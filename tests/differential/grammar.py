"""Programs as text: a grammar of what scientists write around tasks, from which hypothesis draws.

A program prints what its tasks gave it. It never prints what may differ between two right runs: where an object lies,
which of several tasks failed first. Its tasks change nothing but what they are given and what they have made; the
program itself changes all that it has, between the calls.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pieces import CLASSES, HELPERS, NAMES, PRELUDE, TASKS

__all__ = ["PROGRAMS", "drawn", "programs"]

PROGRAMS = int(os.environ.get("DIFFERENTIAL_PROGRAMS", "100"))  # how many each test tries


class _Writer:
    """A program while it is written.

    `failing` has for each variable the calls that it fails with; of several, which one is told first is by chance.
    """

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.classes: list[str] = []
        self.reads: list[str] = []
        self.readers: list[str] = []
        self.values: list[str] = []
        self.futures: list[str] = []
        self.parts: dict[str, set[str]] = {}
        self.failing: dict[str, frozenset[str]] = {}
        self.methods: dict[str, str] = {}
        self.files = ["one"]
        self.count = 0

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def number(self, most: int, least: int = 0) -> int:
        return int(self.draw(st.integers(least, most)))

    def add(self, text: str) -> None:
        self.lines.append(textwrap.dedent(text).rstrip())

    def name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    # --- what the program defines -------------------------------------------------------------------------------------

    def definitions(self) -> None:
        self.add(f"level = {self.number(3)}\ntable = {{'a': [1]}}\nnames = [2]")
        self.reads += ["level", "told(table)", "len(names)"]
        size = self.one_of(6, 6, 6, 6, 6, 6, 6, 40_000)
        self.add(f"grid = np.arange({size}) % 7")
        self.reads.append("int(grid.sum())")
        for text in HELPERS.values():
            self.add("\n\n" + textwrap.dedent(text))
        self.add("\n\ncount, peek = make_counter(1)\nscale_by_4 = make_scale(4)\nhelper = weigh")
        self.add("setting = contextvars.ContextVar('setting', default=1)")
        self.reads += ["weigh(2)", "helper(level)", "peek()", "scale_by_4([2, [3]])", "cached(level)", "is_even(level)"]
        self.reads += ["getattr(weigh, 'bonus', 0)", "other_weigh(1)", "setting.get()"]
        for number in range(self.number(2, 1)):
            kind = self.number(len(CLASSES) - 1)
            self.add("\n\n" + textwrap.dedent(CLASSES[kind](number)))
            cls = f"{NAMES[kind]}{number}"
            self.classes.append(cls)
            self.reads += [f"{cls}.scale", f"{cls}([1]).size()"]
            if kind == 0:
                self.reads.append(f"told({cls}.log)")
        for number in range(self.number(4, 2)):
            self.reader(number)
        self.add(TASKS)

    def reader(self, number: int) -> None:
        """Define a task that reads globals, and gives back its arguments in some arrangement."""
        reads = ", ".join(self.draw(st.lists(st.sampled_from(self.reads), min_size=3, max_size=8, unique=True)))
        cls = self.one_of(*self.classes)
        made = self.one_of(
            "told((first, second))", "first", "[first, first, second]", "{'a': first, 'b': [second, first]}",
            f"{cls}([first, second])", f"[{cls}(first), {cls}(first)]", f"[{cls}, first]", "table",
            "[grid, first, grid]",
            "lambda number: number * 3 + weight(second)", "np.full(40_000, weight(first) + 1)", "set((level, 1))",
        )  # fmt: skip
        spoil = self.one_of("", "", f"change(first, {number + 1})", "change([second, first], 1)")
        options = self.one_of("second=()", "second=3", "*second", "*, second=[4]")
        name = f"read{number}"
        self.readers.append(name)
        lines = ["\n\n@task(returns=1)", f"def {name}(first, {options}):"]
        lines += [f"    came = {spoil}"] * bool(spoil)
        lines += [f"    text = told([{reads}{', came' if spoil else ''}])", f"    return [text, {made}]"]
        self.add("\n".join(lines))

    # --- what the program does ----------------------------------------------------------------------------------------

    def known(self) -> list[str]:
        return self.values + self.futures

    def taints(self, names: set[str]) -> frozenset[str]:
        found: set[str] = set()
        waiting, seen = list(names), set(names)
        while waiting:
            name = waiting.pop()
            found |= self.failing.get(name, frozenset())
            for part in self.parts.get(name, ()):
                if part not in seen:
                    seen.add(part)
                    waiting.append(part)
        return frozenset(found)

    def argument(self, used: set[str], depth: int = 0) -> str:
        """Return an argument; one that could fail for another reason than those in `used` is not taken."""
        kind = self.number(9)
        if kind < 6 and self.known():
            name = self.one_of(*self.known())
            if len(self.taints(used | {name})) > 1:
                return "9"
            used.add(name)
            return str(name)
        if kind < 8 and depth < 2:
            first, second = self.argument(used, depth + 1), self.argument(used, depth + 1)
            return str(
                self.one_of(f"[{first}, {second}]", f"({first}, {second})", f"{{'k': {first}, 'm': [{second}]}}")
            )
        return str(
            self.one_of("1", "4", "'text'", "[5, [6]]", "np.arange(3)", "make_scale(3)", "weigh", self.classes[0],
                        "level",
                        "lambda number: number + 1", "cached", "None")
        )  # fmt: skip

    def new_value(self) -> None:
        name, used = self.name("v"), set[str]()
        cls = self.one_of(*self.classes)
        first = self.argument(used) if self.values else "[1]"
        text = self.one_of(
            f"[{first}, [2]]", f"{{'k': {first}}}", f"{cls}([1])", f"{cls}({first})", "np.arange(8)",
            "np.zeros(40_000, dtype=int)", f"[{first}, {first}]", "{1, 2}",
        )  # fmt: skip
        self.parts[name] = used
        self.add(f"{name} = {text}")
        self.values.append(name)
        if text.startswith("Box"):
            self.methods[name] = text

    def call(self) -> None:
        name, used = self.name("f"), set[str]()
        reader = self.one_of(*self.readers)
        keyword = "second=" if self.is_keyword(reader) else ""
        self.add(f"{name} = {reader}({self.argument(used)}, {keyword}{self.argument(used)})")
        self.made(name, used)

    def is_keyword(self, reader: str) -> bool:
        return any(f"def {reader}(first, *, second" in line for line in self.lines)

    def made(self, name: str, used: set[str], failing: frozenset[str] = frozenset()) -> None:
        self.failing[name] = self.taints(used) | failing
        self.futures.append(name)

    def call_of_ours(self) -> None:
        name, used = self.name("f"), set[str]()
        first = self.argument(used)
        text = self.one_of(f"both({first})[{self.number(1)}]", f"apply(make_scale({self.number(5)}), {first})",
                           f"apply(helper, {self.number(5)})", f"nested({first})",
                           f"spoil({first}, {self.number(3)})")  # fmt: skip
        self.add(f"{name} = {text}")
        self.made(name, used)

    def grow(self) -> None:
        """Let a task, or a chain of them, change a value or a future."""
        if not self.known():
            return
        name, used = self.one_of(*self.known()), set[str]()
        used.add(name)
        second = self.argument(used)
        taints = self.taints(used)
        if name in self.methods and self.draw(st.booleans()):
            future = self.name("f")
            self.add(f"{future} = {name}.{self.one_of('add', 'look')}({self.number(3)})")
            self.made(future, {name})
            return
        times = self.one_of(1, 1, 2, 5)
        self.add(f"for step in range({times}):\n    grow({name}, {self.one_of('step', second)})" if times > 1
                 else f"grow({name}, {second})")  # fmt: skip
        self.failing[name] = self.failing.get(name, frozenset()) | taints

    def update_block(self) -> None:
        """Let tasks change a large array one after the other, which others read, or return a part of, or do not."""
        name = self.name("v")
        self.add(f"{name} = {self.one_of(f'block({self.number(5)})', 'wrapped(3)', 'np.arange(40_000)')}")
        names = [name]
        for _ in range(self.number(6, 2)):
            by, other, each = self.number(5), self.name("f"), self.one_of(*names)
            step = self.one_of("change", "change", "change", "all", "all", "loop", "each", "part", "part", "give",
                               "again", "ignored", "read", "show", "alias")  # fmt: skip
            self.add({
                "change": f"grow({each}, {by})",
                "all": f"add_to_all({each}, {by})",
                "loop": f"for step in range(3):\n    add_to_all({each}, step)",
                "each": f"{other} = [{each}, [1]]\ngrow_each({other}, {by})",
                "part": f"{other} = part({each}, {by % 2})",
                "give": f"{other} = change_and_give({each}, {by})",
                "again": f"change_again({each}, {by}, '{other}')",
                "ignored": f"change_and_raise({each}, {by})",
                "read": f"{other} = {self.one_of('nested', 'both')}({each})",
                "show": f"show('{each}', {each})",
                "alias": f"{other} = {each}",
            }[step])  # fmt: skip
            if step in ("part", "give", "alias"):
                names.append(other)
        self.add("\n".join(f"show('{each}', {each})" for each in names[1:]))
        self.parts[name] = set()
        self.values.append(name)

    def collect(self) -> None:
        """Let a task write the elements of a collection, each a datum of its own."""
        name, used = self.name("v"), set[str]()
        items = [self.argument(used) for _ in range(self.number(3, 1))]
        kind = self.one_of("each", "each", "rows", "table", "steps")
        by = self.number(5)
        taints = self.taints(used)
        if kind == "each":
            self.add(f"{name} = [{', '.join(items)}]")
            self.add(f"grow_each({name}, {by})")
        elif kind == "rows":
            self.add(f"{name} = [[{', '.join(items)}], [], [[4], {items[0]}]]")
            future = self.name("f")
            self.add(f"{future} = swap({name}, {by})")
            self.made(future, set(), taints)
        elif kind == "table":
            self.add(f"{name} = {{'a': {items[0]}, 'b': None}}")
            self.add(f"fill({name}, {by})")
        else:
            self.add(f"{name} = list(wait_on(steps({by})))")
            self.parts[name] = set()
            self.values.append(name)
            return
        for each in used:
            self.failing[each] = self.failing.get(each, frozenset()) | taints
        self.failing[name], self.parts[name] = taints, used
        self.values.append(name)

    def group(self) -> None:
        """Wait for a group of calls."""
        before = len(self.lines)
        self.call()
        self.grow()
        text = textwrap.indent("\n".join(self.lines[before:]), " " * 8)
        del self.lines[before:]
        self.add(f"try:\n    with TaskGroup('group'):\n{text}\nexcept Exception:\n    print('a group has failed')")

    def delete(self) -> None:
        """Have runmem know a value no more: then it is again what the program has."""
        if self.values:
            self.add(f"delete_object({self.one_of(*self.values)})")

    def may_fail(self) -> None:
        name, used = self.name("v"), set[str]()
        self.add(f"{name} = [{self.argument(used)}]")
        if self.taints(used):
            self.add(f"{name} = [2]")
            used = set()
        self.parts[name] = used
        self.values.append(name)
        first, second = self.name("f"), self.name("f")
        self.add(f"{first}, {second} = may_fail({name}, {self.number(3)})")
        self.made(first, used)
        self.made(second, used)

    def fail(self) -> None:
        name, used = self.name("f"), set[str]()
        first = self.argument(used)
        if self.taints(used):
            first = "3"
        self.add(f"{name} = fail({first}, {self.one_of('0', '1', '2')}, '{name}')")
        self.made(name, set(), frozenset((name,)))

    def use_file(self) -> None:
        """Let a task read or write a file, or the program itself."""
        file, used = self.one_of(*self.files), set[str]()
        kind = self.one_of(
            "load", "load", "extend", "extend", "store", "copy", "open", "look", "chain", "all", "delete"
        )
        value = self.argument(used)
        if kind == "load":
            name = self.name("f")
            loaded = f"load({file}, {value})"
            self.add(f"{name} = {self.one_of(loaded, loaded, f'both({loaded})[1]', f'nested([{loaded}])')}")
            self.made(name, used)
            return
        if self.taints(used):  # a file whose writer fails stays as it was, and those that read it fail too
            value = "3"
        other = self.one_of("one", "two", "three")
        if kind == "extend":
            self.file_result(f"extend({file}, {value})")
        elif kind == "chain":
            self.add(f"for step in range({self.number(4, 2)}):\n    {self.kept(f'extend({file}, step)')}")
        elif kind == "store":
            self.file_result(f"store({other}, {value})")
            self.files.append(other)
        elif kind == "copy" and other != file:
            self.add(f"copy_file({file}, {other})")
            self.files.append(other)
        elif kind == "all":
            self.add(f"extend_all([{file}, ({self.one_of(*self.files)})], 5)")
        elif kind == "delete" and file != "one":
            self.add(f"print('deleted', delete_file({file}))")
            self.files = [each for each in self.files if each != file]
        elif kind == "open":
            self.add(f'with open_file({file}, "a") as file:\n    file.write("*{self.number(9)}")')
        else:
            self.add(f'print("{file}", Path(wait_on_file({file})).read_text())')

    def file_result(self, call: str) -> None:
        """Make a call; keep its result, or not."""
        if self.draw(st.booleans()):
            name = self.name("f")
            self.add(f"{name} = {call}")
            self.made(name, set())
        else:
            self.add(call)

    def kept(self, call: str) -> str:
        """Return a statement that keeps the last result of a call in a loop, or none."""
        if self.draw(st.booleans()):
            return call
        name = self.name("f")
        self.made(name, set())
        return f"{name} = {call}"

    def alter(self) -> None:
        """Change what the program has."""
        cls = self.one_of(*self.classes)
        number = self.number(9)
        choices = [
            f"level += {number}", f"table['k{number}'] = [{number}]", "table['a'].append(level)",
            f"names.append({number})",
            "names = [*names, 1]", f"{cls}.scale += 1", f"{cls}.extra = [{number}]", "count()", f"count({number})",
            f"weigh.bonus = {number}", "helper = other_weigh", "helper = weigh", "helper = make_counter",
            "helper = lambda number: number - level", f"{cls}.size = lambda self: {number}", "grid[0] += 1",
            f"grid = np.arange({number + 1})", "scale_by_4 = make_scale(level)",
            "other_weigh.__defaults__[0].append(1)",
            f"other_weigh.__defaults__ = ([{number}],)", "table = {'new': names}", "count, peek = make_counter(level)",
            f"setting.set({number})", "weigh.__code__ = (lambda number: number - level).__code__",
        ]  # fmt: skip
        choices += [f"{cls}.log.append({number})"] * cls.startswith("Box")
        choices += [f"change({name}, {number})" for name in self.values]
        if len(self.values) > 1:
            name, other = self.one_of(*self.values), self.one_of(*self.values)
            if name != other and len(self.taints({name, other})) < 2 and not self.reaches(other, name):
                choices.append(f"{name}.append({other}) if type({name}) is list else change({name}, 1)")
        text = self.one_of(*choices)
        if ".append(v" in text:
            self.parts[name].add(other)
        self.add(text)

    def reaches(self, name: str, other: str) -> bool:
        """Tell whether one value is part of another, in which case it must not become the other's part: a circle."""
        waiting, seen = [name], {name}
        while waiting:
            for part in self.parts.get(waiting.pop(), ()):
                if part not in seen:
                    seen.add(part)
                    waiting.append(part)
        return other in seen

    def show(self) -> None:
        if not self.known():
            return
        name = self.one_of(*self.known(), f"[{', '.join(self.known()[-3:])}]")
        self.add(f'show("{name}", {name})')

    def end(self) -> None:
        """Show all, or end in some other way."""
        kind = self.one_of(*["shown"] * 16, "waited for", "exits", "ends", "ends")
        if kind == "waited for" and self.futures:
            self.add(f"told(wait_on({self.one_of(*self.futures)}))")  # uncaught, if it fails
        elif kind == "exits":
            self.add("sys.exit(3)")
        elif kind == "shown":
            for name in self.known():
                self.add(f'show("{name}", {name})')
            for file in sorted(set(self.files)):
                self.add(f'print("{file}", Path(wait_on_file({file})).read_text())')


@st.composite
def programs(draw: Callable[[Any], Any]) -> str:
    """Return the source of a program."""
    writer = _Writer(draw)
    writer.definitions()
    writer.new_value()
    steps = [writer.call] * 5 + [writer.call_of_ours] * 3 + [writer.grow] * 3 + [writer.alter] * 6
    steps += (
        [writer.new_value] * 2 + [writer.use_file] * 5 + [writer.show] * 2 + [writer.fail, lambda: writer.add("meet()")]
    )
    steps += [writer.update_block] * 3 + [writer.collect] * 4 + [writer.group, writer.delete, writer.may_fail]
    for step in draw(st.lists(st.sampled_from(steps), min_size=5, max_size=14)):
        step()
    writer.end()
    return PRELUDE + "\n\n" + "\n".join(writer.lines) + "\n"


@cache
def drawn(count: int, number: int) -> list[str]:
    """Return `count` different programs, always the same ones for a `number`."""
    found: dict[str, None] = {}

    @seed(number)
    @settings(
        max_examples=2 * count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs())
    def draw(source: str) -> None:
        found[source] = None

    draw()
    assert len(found) >= count
    return list(found)[:count]
