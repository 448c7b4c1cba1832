"""The program as a task sees it at a call: what travels of its functions, classes and the values that they use.

A snapshot has two parts. Its *outline* is the functions and classes that travel by value, with everything in them that
is code. It is packed once, and again only when a definition was replaced. The *values* are what globals, variables of
enclosing functions, class attributes, defaults and attributes of functions hold: they are looked at anew at each call.
Those that nothing can change in place are packed when one was bound anew, the others at each call, like arguments.
"""

from __future__ import annotations

import enum
import functools
import io
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import ContextVar
from itertools import repeat
from operator import is_
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from runmem.errors import ArgumentError
from runmem.graph.task import TaskFunction
from runmem.serialization.class_parts import PICKLE_S_OWN, class_contents, created_class
from runmem.serialization.definitions import CachedFunction, NamespaceKey, ProgramDefinitions, by_value
from runmem.serialization.error_parts import text_of
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.outline import (
    Place,
    make_cell,
    make_defined_function,
    make_numbered,
    make_task,
)
from runmem.serialization.packed import LARGE_BYTES
from runmem.serialization.pickling import Pickler, global_names, imported_submodules, names_of_values
from runmem.serialization.references import ATOMS, Empty, ReferencePickler, attributes_of, contents_of
from runmem.serialization.standard_types import default_of, make_cached, make_context_variable, reduced, remedy

__all__ = ["Snapshot", "Snapshots"]

_MISSING: Any = types.new_class("_MISSING")
_CONTAINERS = (list, dict, tuple, set, frozenset)
_UNCHANGING = (enum.Enum, PurePath, re.Pattern, range, slice, np.generic, np.dtype, type(Ellipsis))
_IN_RESULTS = (type, ContextVar, CachedFunction)
_KNOWN_TASKS = 512
_MOST_EXTRA = 64
_TASK_OWN = frozenset(
    ("function", "options", "name", "module", "file", "signature", "returns", "__wrapped__", "__name__", "__doc__",
     "__qualname__", "__module__", "__annotations__", "__type_params__", "_compilation", "_called", "_remarks")
)  # fmt: skip


def _is_code(value: Any) -> bool:
    """Tell whether a value belongs to the outline: it is a definition, or something of a library."""
    kind = type(value)
    if kind in ATOMS or kind in _CONTAINERS:
        return False
    if isinstance(value, (types.FunctionType, type, TaskFunction, CachedFunction, ContextVar)):
        return True
    if isinstance(value, types.ModuleType):
        return value.__name__ in sys.modules
    if isinstance(value, types.BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, (types.ModuleType, type))
    if kind in (types.MethodType, functools.partial):
        return False
    return hasattr(kind, "__get__") and not by_value(kind)


def _is_constant(value: Any) -> bool:
    """Tell whether nothing can change a value in place."""
    kind = type(value)
    if kind in ATOMS:
        return kind not in (str, bytes) or len(value) <= LARGE_BYTES
    if kind in (tuple, frozenset):
        return all(_is_constant(item) or _is_code(item) for item in value)
    return isinstance(value, _UNCHANGING) or value is Empty


class _Watch(NamedTuple):
    """Entries of a mapping as they were; `length`: how many entries it has in all, where there must be no others."""

    mapping: Any
    names: tuple[str, ...]
    values: list[Any]
    places: list[int | None]
    length: int | None


class Snapshot:
    """A snapshot of what a task, and the values that its calls are given, refer to.

    Attributes
    ----------
    outline : bytes
    given : frozenset of int
        Those that were asked for, because the values that a call is given may refer to them.
    travelling : frozenset of int
        Those that results may refer to: classes and what else has no way beside its number, what was asked for, and
        functions that are used other than by calling them. Who is given a result needs these as they are then.
    constants : bytes
        Pickle of the values that nothing can change in place, by place.
    changing : dict
        The other values, by place, as they are now.
    """

    def __init__(self, given: Iterable[int], definitions: ProgramDefinitions, task: int | None = None) -> None:
        self.given = frozenset(given)
        self._definitions = definitions
        self._watches: list[_Watch] = []
        self._cells: list[tuple[types.CellType, int | None]] = []
        self._cell_values: list[Any] = []
        self._functions: list[tuple[types.FunctionType, types.CodeType]] = []
        self._defaults: list[tuple[types.FunctionType, str, int]] = []
        self._variables: list[tuple[ContextVar[Any], int]] = []
        self.places: list[Place] = []
        self._values: list[Any] = []
        packing = _Packing(self, definitions)
        self.outline = packing.packed(self.given if task is None else self.given | {task})
        self.objects = packing.reached
        by_number = {number for number, datum in self.objects.items() if isinstance(datum, _IN_RESULTS)}
        self.travelling = self.given | by_number | packing.used_as_values
        self._constant: list[bool] = []
        self.constants = b""
        self.changing: dict[int, Any] = {}
        self.constant_numbers: frozenset[int] = frozenset()
        self._sort_values()

    def _sort_values(self) -> None:
        self._constant = [_is_constant(value) for value in self._values]
        values = enumerate(zip(self._values, self._constant, strict=True))
        constants = {place: value for place, (value, constant) in values if constant}
        file = io.BytesIO()
        pickler = ReferencePickler(file, self._definitions)
        pickler.dump(constants)
        self.constants, self.constant_numbers = file.getvalue(), frozenset(pickler.numbers)
        self.changing = {place: value for place, value in enumerate(self._values) if not self._constant[place]}

    def add_place(self, place: Place, value: Any) -> int:
        """Take note of a place that holds a value; return its number."""
        self.places.append(place)
        self._values.append(value)
        return len(self.places) - 1

    def describe(self, place: int) -> str:
        """Return what a person calls a place."""
        kind, target, key = self.places[place]
        if kind == "global":
            return f"global {key!r}"
        if kind == "cell":
            return "a variable of an enclosing function"
        name = getattr(target, "__qualname__", getattr(target, "name", "?"))
        return f"{name}.{key}" if key else str(name)

    def is_current(self) -> bool:
        """Take up the values as they are now; False: a definition has changed, and the outline tells it no more."""
        if self._all_holds():
            return True
        if not (self._code_holds() and all(self._watch_holds(watch) for watch in self._watches)):
            return False
        for index, (cell, place) in enumerate(self._cells):
            value = contents_of(cell)
            if value is not self._cell_values[index]:
                if place is None or _is_code(value):
                    return False
                self._cell_values[index] = self._values[place] = value
        for function, name, place in self._defaults:
            self._values[place] = getattr(function, name)
        for variable, place in self._variables:
            self._values[place] = variable.get(Empty)
        self._sort_values()
        return self.constant_numbers <= self.travelling

    def _all_holds(self) -> bool:
        """Tell whether every name stands for the very object that it stood for: most calls need to know no more."""
        for mapping, names, values, _, length in self._watches:
            if length is not None and len(mapping) - (PICKLE_S_OWN in mapping) != length:
                return False
            if names and not all(map(is_, map(mapping.get, names, repeat(_MISSING)), values)):
                return False
        for (cell, _), value in zip(self._cells, self._cell_values, strict=True):
            if contents_of(cell) is not value:
                return False
        known = self._values
        for function, name, place in self._defaults:
            if getattr(function, name) is not known[place]:
                return False
        for variable, place in self._variables:
            if variable.get(Empty) is not known[place]:
                return False
        return self._code_holds()

    def _code_holds(self) -> bool:
        return all(function.__code__ is code for function, code in self._functions)

    def _watch_holds(self, watch: _Watch) -> bool:
        mapping, names, values, places, length = watch
        if length is not None and len(mapping) - (PICKLE_S_OWN in mapping) != length:
            return False
        for index, (name, old, place) in enumerate(zip(names, values, places, strict=True)):
            value = mapping.get(name, _MISSING)
            if value is not old:
                if place is None or value is _MISSING or _is_code(value):
                    return False
                values[index] = self._values[place] = value
        return True


class _Packing(Pickler):
    """Packs an outline, and notes in the snapshot what it was made from.

    Every definition is made empty first and filled when all are there, however they refer to each other; so none is
    nested in another, and a long chain of them is no deep recursion.
    """

    def __init__(self, snapshot: Snapshot, definitions: ProgramDefinitions) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self._snapshot = snapshot
        self._definitions = definitions
        self._waiting: list[Any] = []
        self._globals: dict[int, dict[str, tuple[Any, int | None]]] = {}
        self._namespaces: dict[int, dict[str, Any]] = {}
        self.reached: dict[int, Any] = {}
        self.used_as_values: set[int] = set()

    def packed(self, roots: Iterable[int]) -> bytes:
        """Return the outline: what is made, what it is filled with, and which places hold values."""
        self.dump([self._definitions.object_of(number) for number in sorted(roots)])
        while self._waiting:
            batch, self._waiting = self._waiting, []
            self.dump([(datum, self._filling(datum)) for datum in batch])
        self.dump(None)
        self.dump(self._snapshot.places)
        for identity, found in self._globals.items():
            values, places = [value for value, _ in found.values()], [place for _, place in found.values()]
            watch = _Watch(self._namespaces[identity], tuple(found), values, places, None)
            self._snapshot._watches.append(watch)
        return self._file.getvalue()

    def reducer_override(self, obj: Any) -> Any:
        """Return how `obj` is made, empty where it is a definition."""
        if type(obj) is types.CellType:
            self._waiting.append(obj)
            return make_cell, ()
        if isinstance(obj, (types.FunctionType, type, TaskFunction, CachedFunction, ContextVar)):
            number = self._definitions.number_of(obj)
            if number is not None:
                self.reached[number] = obj
                self._waiting.append(obj)
                return self._made(obj, number)
        return reduced(obj) or super().reducer_override(obj)

    def _made(self, obj: Any, number: int) -> tuple[Any, ...]:
        if isinstance(obj, type):
            return created_class(obj, number)
        if isinstance(obj, types.FunctionType):
            names = obj.__globals__
            about = {name: names.get(name) for name in ("__name__", "__file__", "__package__")}
            key = self._definitions.namespace_key(names)
            own = obj.__name__, obj.__qualname__, obj.__module__, obj.__doc__
            return make_defined_function, (number, key, about, obj.__code__, own, obj.__closure__)
        if type(obj) is TaskFunction:
            return make_task, (number,)
        if isinstance(obj, CachedFunction):
            return make_numbered, (number, make_cached, (obj.__wrapped__, obj.cache_parameters()))
        if isinstance(obj, ContextVar):
            return make_numbered, (number, make_context_variable, (obj.name, *default_of(obj)))
        return make_numbered, (number, *obj.__reduce__())

    def _filling(self, obj: Any) -> dict[str, Any]:
        """Return what is set in a definition once all are made, and note the places in it that hold values."""
        if type(obj) is types.CellType:
            return self._cell(obj)
        if isinstance(obj, type):
            code, data, watched = class_contents(obj, _is_code)
            self._note_mapping(vars(obj), obj, "attribute", data, watched)
            return code
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if type(obj) is TaskFunction:
            own = {name: value for name, value in vars(obj).items() if name not in _TASK_OWN}
            data = {name: value for name, value in own.items() if not _is_code(value)}
            self._note_mapping(vars(obj), obj, "item", data, tuple(own))
            code = {name: value for name, value in own.items() if name not in data}
            return {"task": (obj.function, obj.options), "dict": code}
        if isinstance(obj, ContextVar):
            place = self._snapshot.add_place(Place("context", obj, ""), obj.get(Empty))
            self._snapshot._variables.append((obj, place))
        return {}

    def _cell(self, cell: types.CellType) -> dict[str, Any]:
        value, place = contents_of(cell), None
        code: dict[str, Any] = {}
        if value is not Empty and _is_code(value):
            code = {"cell": value}
            self._note_value(value)
        else:
            place = self._snapshot.add_place(Place("cell", cell, ""), value)
        self._snapshot._cells.append((cell, place))
        self._snapshot._cell_values.append(value)
        return code

    def _function(self, function: types.FunctionType) -> dict[str, Any]:
        snapshot = self._snapshot
        snapshot._functions.append((function, function.__code__))
        attributes = attributes_of(function)
        for name in ("__defaults__", "__kwdefaults__"):
            place = snapshot.add_place(Place("default", function, name), attributes.pop(name))
            snapshot._defaults.append((function, name, place))
        data = {name: value for name, value in function.__dict__.items() if not _is_code(value)}
        self._note_mapping(function.__dict__, function, "item", data, tuple(function.__dict__))
        filling: dict[str, Any] = {
            "set": attributes,
            "dict": {name: value for name, value in function.__dict__.items() if name not in data},
        }
        key = self._definitions.namespace_key(function.__globals__)
        if key.kind != "library":
            names = self._names(function, key)
            values = [*names.values(), *(contents_of(cell) for cell in function.__closure__ or ())]
            filling |= {"globals": (key, names), "modules": imported_submodules(function.__code__, values)}
        return filling

    def _names(self, function: types.FunctionType, key: NamespaceKey) -> dict[str, Any]:
        """Return the definitions among the globals of a function; note the places of the others."""
        names = function.__globals__
        noted = self._globals.setdefault(id(names), {})
        self._namespaces[id(names)] = names
        code = {}
        as_values = names_of_values(function.__code__)
        for name in global_names(function.__code__):
            value = names.get(name, _MISSING)
            is_code = value is not _MISSING and _is_code(value)
            if is_code:
                code[name] = value
                if name in as_values:
                    self._note_value(value)
            if name not in noted:
                is_value = value is not _MISSING and not is_code
                place = self._snapshot.add_place(Place("global", key, name), value) if is_value else None
                noted[name] = value, place
        return code

    def _note_value(self, value: Any) -> None:
        """Note that a task may hand a definition on, in its result."""
        number = self._definitions.number_of(value)
        if number is not None:
            self.used_as_values.add(number)

    def _note_mapping(
        self, mapping: Any, owner: Any, kind: str, data: dict[str, Any], watched: tuple[str, ...]
    ) -> None:
        places = {name: self._snapshot.add_place(Place(kind, owner, name), value) for name, value in data.items()}
        values = [mapping[name] for name in watched]
        length = len(mapping) - (PICKLE_S_OWN in mapping)
        self._snapshot._watches.append(_Watch(mapping, watched, values, [places.get(n) for n in watched], length))


class Snapshots:
    """Gives each call the snapshot that it needs, and packs no outline twice while it holds.

    Parameters
    ----------
    definitions : ProgramDefinitions
    """

    def __init__(self, definitions: ProgramDefinitions) -> None:
        self._definitions = definitions
        self._known: OrderedDict[TaskFunction, Snapshot] = OrderedDict()

    def of(self, task: TaskFunction, numbers: frozenset[int]) -> Snapshot | None:
        """Return a current snapshot with the task, if it travels by value, and the definitions with these numbers.

        Raises
        ------
        ArgumentError
            If something that they refer to cannot be pickled.
        """
        known = self._known.get(task)
        if known is not None and numbers <= known.travelling and self._holds(known, task):
            return known
        number = self._definitions.number_of(task)
        if not numbers and number is None:
            return None
        if known is not None and len(known.given) < _MOST_EXTRA:
            numbers |= known.given
        try:
            made = Snapshot(numbers, self._definitions, number)
            while more := made.constant_numbers - made.travelling:
                made = Snapshot(made.given | more, self._definitions, number)
        except BaseException as error:  # also SystemExit: the class of a value has raised this
            if is_interrupt(error):
                raise
            raise self._refusal(task, error) from error
        self._known[task] = made
        self._known.move_to_end(task)
        if len(self._known) > _KNOWN_TASKS:
            self._known.popitem(last=False)
        return made

    def _holds(self, known: Snapshot, task: TaskFunction) -> bool:
        try:
            return known.is_current()
        except BaseException as error:  # also SystemExit: the class of a value has raised this
            if is_interrupt(error):
                raise
            raise self._refusal(task, error) from error

    @staticmethod
    def _refusal(task: TaskFunction, error: BaseException) -> ArgumentError:
        return ArgumentError(
            f"task {task.name} cannot be sent to a worker: something it refers to could not be pickled "
            f"({text_of(error)}). {remedy(error)}."
        )
