"""What a task changes outside of itself, as plain to see in its code: names and objects of its module or closure.

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
from itertools import product
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
    """What stands behind the names outside of a function at its decoration."""

    def __init__(self, function: FunctionType) -> None:
        self._globals = function.__globals__
        self._module = function.__module__
        self._class = function.__qualname__.rpartition(".")[0].rpartition(".")[2]  # in which a method stands
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        self._free = {name: _contents(cell) for name, cell in cells.items()}

    def shared(self, name: str, free: bool) -> Set[str]:
        """Return which changes in place of what has this name are plainly changes of shared data.

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
    if _may_change(code, outside, known):
        yield from _changes(code, outside, known)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _in_code(constant, (outside - set(code.co_cellvars)) & set(constant.co_freevars), known)


def _may_change(code: CodeType, outside: frozenset[str], known: _Known) -> bool:
    """Tell, without taking the code apart, whether it can have a change in it at all."""
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


def _changes(code: CodeType, outside: frozenset[str], known: _Known) -> Iterator[Change]:
    stack = _Stack(outside)
    before: deque[str] = deque(maxlen=3)
    for step in dis.get_instructions(code):
        line = (step.positions.lineno if step.positions else None) or code.co_firstlineno
        name = step.opname
        if name in _ASSIGNS and not {"IMPORT_NAME", "IMPORT_FROM"} & set(before):  # an import that waits until needed
            yield Change(step.argval, line, _ASSIGNS[name], "global")
        elif name in _ASSIGNS_OUTSIDE and step.argval in outside:
            yield Change(step.argval, line, _ASSIGNS_OUTSIDE[name], "enclosing")
        elif (place := _place_of_changed(step)) is not None:
            changed = stack.at(place[0])
            if changed is not None and place[1] in known.shared(*changed):
                yield Change(changed[0], line, "changes in place", "enclosing" if changed[1] else "global")
        stack.follow(step)
        before.append(name)


def _place_of_changed(step: dis.Instruction) -> tuple[int, str] | None:
    """Return where on the stack lies what an instruction changes in place, and what of it; None: it changes nothing."""
    if step.opname in _IN_PLACE:
        return _IN_PLACE[step.opname]
    calls = step.opname == "LOAD_METHOD" or _ATTRIBUTE_OR_METHOD and step.opname == "LOAD_ATTR" and (step.arg or 0) & 1
    return (1, "methods") if calls and step.argval in _METHODS else None


_PUSHES_ONE = (
    "BINARY_", "UNARY_", "BUILD_", "FORMAT_", "COMPARE_OP", "CONTAINS_OP", "IS_OP", "CALL", "CONVERT_VALUE",
    "CALL_FUNCTION_EX", "CALL_KW", "MAKE_FUNCTION",
)  # fmt: skip
_PUSHES_ONLY = ("LOAD_FAST", "LOAD_CONST", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_NAME", "PUSH_NULL")
_TAKES_ONLY = ("STORE_", "DELETE_", "POP_TOP")
_LEAVES = {"NOP", "RESUME", "CACHE", "EXTENDED_ARG", "KW_NAMES", "MAKE_CELL", "COPY_FREE_VARS"}


class _Stack:
    """The interpreter's stack between two jumps, as far as names outside of the function lie on it."""

    def __init__(self, outside: frozenset[str]) -> None:
        self._outside = outside
        self._items: list[tuple[str, bool] | None] = []

    def at(self, depth: int) -> tuple[str, bool] | None:
        """Return the name that lies so deep, the top being 1, and whether it is a free one; None: another value."""
        return self._items[-depth] if depth <= len(self._items) else _UNKNOWN

    def follow(self, step: dis.Instruction) -> None:
        """Do what an instruction does; what is not known of it makes all unknown."""
        name, arg = step.opname, step.arg
        if step.is_jump_target:
            self._items.clear()
        if name in _LEAVES:
            return
        if name == "COPY":
            self._items.append(self.at(arg or 1))
        elif name == "SWAP":
            self._swap(arg or 1)
        elif name == "LOAD_GLOBAL" and not (arg or 0) & 1:  # else it is called
            self._items.append((step.argval, False))
        elif name == "LOAD_DEREF":
            self._items.append((step.argval, True) if step.argval in self._outside else _UNKNOWN)
        else:
            self._follow_other(step)

    def _swap(self, depth: int) -> None:
        if depth > len(self._items):
            self._items[:0] = [_UNKNOWN] * (depth - len(self._items))
        self._items[-1], self._items[-depth] = self._items[-depth], self._items[-1]

    def _follow_other(self, step: dis.Instruction) -> None:
        name, arg = step.opname, step.arg
        try:
            effect = dis.stack_effect(step.opcode, arg if step.opcode >= dis.HAVE_ARGUMENT else None, jump=False)
        except ValueError:
            self._items.clear()
            return
        if name in ("LOAD_ATTR", "LOAD_METHOD"):
            taken = 1
        elif name == "PRECALL":  # of Python 3.11: before CALL
            taken = (arg or 0) + 2
        elif name.startswith(_PUSHES_ONE):
            taken = 1 - effect
        elif name.startswith(_PUSHES_ONLY):
            taken = 0
        elif name.startswith(_TAKES_ONLY):
            taken = -effect
        else:
            self._items.clear()
            return
        del self._items[max(0, len(self._items) - taken) :]
        self._items += [_UNKNOWN] * (taken + effect)
