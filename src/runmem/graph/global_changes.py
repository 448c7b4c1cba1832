"""Finds changes of globals and closures that are evident from the bytecode of a task.

Only the worker process that runs a call sees such a change. Limitations: functions that the task calls are not looked
into, and a change in place is reported where the kind of the object leaves no doubt, and not otherwise.
"""

from __future__ import annotations

import dis
import inspect
import opcode
import sys
import threading
from collections import deque
from collections.abc import Iterator, Set
from itertools import islice, product
from types import CodeType, FunctionType
from typing import Any, NamedTuple

__all__ = ["Change", "global_changes"]

_CONTAINERS = (list, dict, set, bytearray, deque)
_LIBRARY_CONTAINERS = {("numpy", "ndarray"), ("pandas", "DataFrame"), ("pandas", "Series")}
_METHODS = {
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "add", "update", "discard", "setdefault",
    "popitem", "appendleft", "extendleft", "popleft", "rotate", "subtract", "difference_update", "intersection_update",
    "symmetric_difference_update",
}  # fmt: skip
_ASSIGNS = {"STORE_GLOBAL": "assigns to", "DELETE_GLOBAL": "deletes"}
_ASSIGNS_OUTSIDE = {"STORE_DEREF": "assigns to", "DELETE_DEREF": "deletes"}
_IN_PLACE = {
    "STORE_SUBSCR": (2, "items"), "DELETE_SUBSCR": (2, "items"), "STORE_SLICE": (3, "items"),
    "STORE_ATTR": (1, "attributes"), "DELETE_ATTR": (1, "attributes"),
}  # fmt: skip
_ATTRIBUTE_OR_METHOD = sys.version_info >= (3, 12)  # one instruction for both
_UNKNOWN = None
_NONE: frozenset[str] = frozenset()
_OF_CONTAINERS = frozenset({"items", "methods"})
_OF_ARRAYS = frozenset({"items"})
_OF_OBJECTS = frozenset({"attributes"})


def _codes(*names: str) -> set[int]:
    return {opcode.opmap[name] for name in names if name in opcode.opmap}


_ASSIGN_CODES, _ASSIGN_OUTSIDE_CODES = _codes(*_ASSIGNS), _codes(*_ASSIGNS_OUTSIDE)
_ITEM_CODES = _codes("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE")
# What is loaded right before an attribute of it is changed: `name.attribute = ...`; or exchanged: `... += 1`.
_ATTRIBUTE_CODES = [
    bytes(pair) for pair in product(_codes("LOAD_GLOBAL", "LOAD_DEREF", "SWAP"), _codes("STORE_ATTR", "DELETE_ATTR"))
]
_NOT_BETWEEN = bytes(_codes("CACHE", "EXTENDED_ARG"))


class Change(NamedTuple):
    """A change of something outside of a function: the name, the line, and what is done, such as ``assigns to``."""

    name: str
    line: int
    does: str
    where: str


def global_changes(function: Any) -> list[Change]:
    """Return the first change of each name outside of a function that its code makes plainly."""
    function = inspect.unwrap(function) if hasattr(function, "__wrapped__") else function
    if not isinstance(function, FunctionType):
        return []
    known = _Known(function)
    found: dict[str, Change] = {}
    for change in _in_code(function.__code__, frozenset(function.__code__.co_freevars), known):
        found.setdefault(change.name, change)
    return sorted(found.values(), key=lambda change: change.line)


class _Known:
    """The values of the outer names of a function at its decoration."""

    def __init__(self, function: FunctionType) -> None:
        self._globals = function.__globals__
        self._module = function.__module__
        self._class = function.__qualname__.rpartition(".")[0].rpartition(".")[2]  # in which a method stands
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        self._free = {name: _contents(cell) for name, cell in cells.items()}

    def shared(self, name: str, free: bool) -> Set[str]:
        """Return the kinds of in-place changes of this name that are evidently changes of shared data.

        ``items``, ``attributes`` and ``methods`` (calls of methods that change it). None where it may well be meant for
        one process: an object of a library (a logger, say), a module, `threading.local`.
        """
        value = self._free.get(name) if free else self._globals.get(name)
        if value is None and name == self._class:
            return _OF_OBJECTS  # it is not made yet
        cls = value if isinstance(value, type) else type(value)
        if isinstance(value, threading.local):
            return _NONE
        if isinstance(value, _CONTAINERS) and cls.__module__ in ("builtins", "collections", self._module):
            return _OF_CONTAINERS
        if cls.__module__ == self._module:
            return _OF_OBJECTS
        library = (cls.__module__.partition(".")[0], cls.__name__)
        return _OF_ARRAYS if library in _LIBRARY_CONTAINERS and value is not cls else _NONE


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty: not assigned yet
        return None


def _in_code(code: CodeType, outside: frozenset[str], known: _Known) -> Iterator[Change]:
    """Yield the changes in a function's code and in that of functions in it; `outside`: free names of the task."""
    if _may_change(code, outside, known) and any(_changes(code, outside, known, set())):
        targets = set(dis.findlabels(code.co_code))  # type: ignore[arg-type]  # it takes bytes
        yield from _changes(code, outside, known, targets)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _in_code(constant, (outside - set(code.co_cellvars)) & set(constant.co_freevars), known)


def _may_change(code: CodeType, outside: frozenset[str], known: _Known) -> bool:
    """Return True if the code may contain a change, by a quick test without decoding it."""
    order = code.co_code[::2].translate(None, _NOT_BETWEEN)
    codes = set(order)
    if codes & _ASSIGN_CODES or outside and codes & _ASSIGN_OUTSIDE_CODES:
        return True
    kinds = set()
    if codes & _ITEM_CODES:
        kinds.add("items")
    if not _METHODS.isdisjoint(code.co_names):
        kinds.add("methods")
    if any(pair in order for pair in _ATTRIBUTE_CODES):
        kinds.add("attributes")
    return bool(kinds) and (
        any(known.shared(name, False) & kinds for name in code.co_names)
        or any(known.shared(name, True) & kinds for name in outside)
    )


class _Step(NamedTuple):
    """An instruction: its name, opcode, argument, and the name in the code that it is about, if it is one of those."""

    opname: str
    code: int
    arg: int
    name: str
    place: int


def _steps(code: CodeType) -> Iterator[_Step]:
    """Yield the instructions of a function, in a fraction of the time that `dis.get_instructions` takes."""
    variables = [*code.co_varnames, *(name for name in code.co_cellvars if name not in code.co_varnames)]
    variables += code.co_freevars
    names, text = code.co_names, code.co_code
    arg = 0
    for place in range(0, len(text), 2):
        number, arg = text[place], arg | text[place + 1]
        if number == _EXTENDED_ARG:
            arg <<= 8
            continue
        opname = opcode.opname[number]
        if opname in _OF_NAMES:
            name = names[arg >> _OF_NAMES[opname]]
        else:
            name = variables[arg] if opname in _OF_VARIABLES else ""
        if opname != "CACHE":
            yield _Step(opname, number, arg, name, place)
        arg = 0


def _changes(code: CodeType, outside: frozenset[str], known: _Known, targets: set[int]) -> Iterator[Change]:
    """Yield the changes; more than there are where the `targets` of jumps are left out, which take long to find."""
    stack = _Stack(outside)
    before: deque[str] = deque(maxlen=3)
    for step in _steps(code):
        if step.place in targets:
            stack.forget()
        if step.opname in _ASSIGNS:
            if not {"IMPORT_NAME", "IMPORT_FROM"} & set(before):  # an import that waits until it is needed
                yield Change(step.name, _line(code, step), _ASSIGNS[step.opname], "global")
        elif step.opname in _ASSIGNS_OUTSIDE:
            if step.name in outside:
                yield Change(step.name, _line(code, step), _ASSIGNS_OUTSIDE[step.opname], "enclosing")
        elif (place := _place_of_changed(step)) is not None:
            changed = stack.at(place[0])
            if changed is not None and place[1] in known.shared(*changed):
                where = "enclosing" if changed[1] else "global"
                yield Change(changed[0], _line(code, step), "changes in place", where)
        stack.follow(step)
        before.append(step.opname)


def _line(code: CodeType, step: _Step) -> int:
    line = next(islice(code.co_positions(), step.place // 2, None))[0]
    return line or code.co_firstlineno


def _place_of_changed(step: _Step) -> tuple[int, str] | None:
    """Return the stack depth of the object that an instruction changes, and the kind of change; None: no change."""
    if step.opname in _IN_PLACE:
        return _IN_PLACE[step.opname]
    calls = step.opname == "LOAD_METHOD" or _ATTRIBUTE_OR_METHOD and step.opname == "LOAD_ATTR" and step.arg & 1
    return (1, "methods") if calls and step.name in _METHODS else None


# Where the name is in the argument of an instruction: behind so many flags.
_OF_NAMES = {
    "LOAD_GLOBAL": 1, "LOAD_ATTR": 1 if _ATTRIBUTE_OR_METHOD else 0, "LOAD_METHOD": 0, "STORE_GLOBAL": 0,
    "DELETE_GLOBAL": 0,
}  # fmt: skip
_OF_VARIABLES = {"LOAD_DEREF", "STORE_DEREF", "DELETE_DEREF"}
_EXTENDED_ARG = opcode.opmap["EXTENDED_ARG"]
_PUSHES_ONE = (
    "BINARY_", "UNARY_", "BUILD_", "FORMAT_", "COMPARE_OP", "CONTAINS_OP", "IS_OP", "CALL", "CONVERT_VALUE",
    "CALL_FUNCTION_EX", "CALL_KW", "MAKE_FUNCTION",
)  # fmt: skip
_PUSHES_ONLY = ("LOAD_FAST", "LOAD_CONST", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_NAME", "PUSH_NULL")
_TAKES_ONLY = ("STORE_", "DELETE_", "POP_TOP")
_TAKES_ONE = ("LOAD_ATTR", "LOAD_METHOD", "STORE_FAST_LOAD_FAST")
_LEAVES = ("NOP", "RESUME", "CACHE", "KW_NAMES", "MAKE_CELL", "COPY_FREE_VARS")


def _takes(opname: str) -> str:
    """Return the rule for the number of items that an instruction pops, given its total stack effect."""
    for way, names in (
        ("one", _TAKES_ONE), ("nothing", _LEAVES), ("to push one", _PUSHES_ONE), ("nothing", _PUSHES_ONLY),
        ("its effect", _TAKES_ONLY),
    ):  # fmt: skip
        if opname.startswith(names) if names not in (_TAKES_ONE, _LEAVES) else opname in names:
            return way
    return "a call before 3.12" if opname == "PRECALL" else "unknown"


_TAKES = {opname: _takes(opname) for opname in opcode.opmap}


class _Stack:
    """Model of the interpreter's stack between two jumps: which items are outer names."""

    def __init__(self, outside: frozenset[str]) -> None:
        self._outside = outside
        self._items: list[tuple[str, bool] | None] = []

    def at(self, depth: int) -> tuple[str, bool] | None:
        """Return the name that lies so deep, the top being 1, and whether it is a free one; None: another value."""
        return self._items[-depth] if depth <= len(self._items) else _UNKNOWN

    def forget(self) -> None:
        """Forget the content of the stack."""
        self._items.clear()

    def follow(self, step: _Step) -> None:
        """Apply an instruction; an unknown one makes all items unknown."""
        name, arg = step.opname, step.arg
        if name == "COPY":
            self._items.append(self.at(arg))
        elif name == "SWAP":
            self._swap(arg)
        elif name == "LOAD_GLOBAL" and not arg & 1:  # else it is called
            self._items.append((step.name, False))
        elif name == "LOAD_DEREF":
            self._items.append((step.name, True) if step.name in self._outside else _UNKNOWN)
        else:
            self._follow_other(step)

    def _swap(self, depth: int) -> None:
        if depth > len(self._items):
            self._items[:0] = [_UNKNOWN] * (depth - len(self._items))
        self._items[-1], self._items[-depth] = self._items[-depth], self._items[-1]

    def _follow_other(self, step: _Step) -> None:
        way = _TAKES[step.opname]
        if way == "unknown":
            self._items.clear()
            return
        effect = dis.stack_effect(step.code, step.arg if step.code >= dis.HAVE_ARGUMENT else None, jump=False)
        taken = {
            "one": 1, "nothing": 0, "to push one": 1 - effect, "its effect": -effect,
            "a call before 3.12": step.arg + 2,
        }[way]  # fmt: skip
        if taken:
            del self._items[-taken:]
        self._items += [_UNKNOWN] * (taken + effect)
