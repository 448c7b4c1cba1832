"""Pickles the definitions of a snapshot's outline, and notes the names and values that they refer to."""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Iterable
from contextvars import ContextVar

from runmem.graph.task import TaskFunction
from runmem.serialization.class_parts import class_contents, created_class
from runmem.serialization.definitions import CachedFunction, NamespaceKey, ProgramDefinitions
from runmem.serialization.outline import (
    ValuePlace,
    make_cell,
    make_defined_function,
    make_numbered,
    make_task,
)
from runmem.serialization.pickling import Pickler, global_names, imported_submodules, names_of_values
from runmem.serialization.references import attributes_of, contents_of
from runmem.serialization.standard_types import default_of, make_cached, make_context_variable, reduced
from runmem.serialization.watched_values import MISSING, WatchedMapping, WatchedValues, is_code

__all__ = ["OutlinePickler"]

_TASK_OWN = frozenset(
    ("function", "options", "name", "module", "file", "signature", "returns", "__wrapped__", "__name__", "__doc__",
     "__qualname__", "__module__", "__annotations__", "__type_params__", "_compilation", "_called", "_remarks")
)  # fmt: skip


class OutlinePickler(Pickler):
    """Pickles an outline.

    Every definition is made empty first and filled when all are made, whatever refers to what. So none is nested in
    another, and a long chain of them needs no deep recursion.

    Attributes
    ----------
    reached : dict
        The definitions in the outline, by number.
    used_as_values : set of int
        Those that a task may hand on in its result, because it does not just call them.
    """

    def __init__(self, watched: WatchedValues, definitions: ProgramDefinitions) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self._watched = watched
        self._definitions = definitions
        self._waiting: list[object] = []
        self._globals: dict[int, dict[str, tuple[object, int | None]]] = {}
        self._namespaces: dict[int, dict[str, object]] = {}
        self.reached: dict[int, object] = {}
        self.used_as_values: set[int] = set()

    def packed(self, roots: Iterable[int]) -> bytes:
        """Return the outline: what is made, what it is filled with, and the places of values."""
        self.dump([self._definitions.object_of(number) for number in sorted(roots)])
        while self._waiting:
            batch, self._waiting = self._waiting, []
            self.dump([(datum, self._filling(datum)) for datum in batch])
        self.dump(None)
        self.dump(self._watched.places)
        for identity, found in self._globals.items():
            values, places = [value for value, _ in found.values()], [place for _, place in found.values()]
            self._watched.watches.append(WatchedMapping(self._namespaces[identity], tuple(found), values, places, None))
        return self._file.getvalue()

    def reducer_override(self, obj: object) -> object:
        """Return the function and arguments that make `obj`; empty, if it is a definition."""
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

    def _made(self, obj: object, number: int) -> tuple[object, ...]:
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

    def _filling(self, obj: object) -> dict[str, object]:
        """Return the contents of a definition, set once all are made, and watch the values in it."""
        if type(obj) is types.CellType:
            if not self._watched.add_cell(obj):
                return {}
            self._note_use(obj.cell_contents)
            return {"cell": obj.cell_contents}
        if isinstance(obj, type):
            code, data, watched = class_contents(obj, is_code)
            self._watched.add_mapping(vars(obj), obj, "attribute", data, watched)
            return code
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if type(obj) is TaskFunction:
            own = {name: value for name, value in vars(obj).items() if name not in _TASK_OWN}
            data = {name: value for name, value in own.items() if not is_code(value)}
            self._watched.add_mapping(vars(obj), obj, "item", data, tuple(own))
            code = {name: value for name, value in own.items() if name not in data}
            return {"task": (obj.function, obj.options), "dict": code}
        if isinstance(obj, ContextVar):
            self._watched.add_variable(obj)
        return {}

    def _function(self, function: types.FunctionType) -> dict[str, object]:
        self._watched.add_function(function)
        attributes = attributes_of(function)
        del attributes["__defaults__"], attributes["__kwdefaults__"]
        own = function.__dict__
        data = {name: value for name, value in own.items() if not is_code(value)}
        self._watched.add_mapping(own, function, "item", data, tuple(own))
        filling: dict[str, object] = {
            "set": attributes,
            "dict": {name: value for name, value in own.items() if name not in data},
        }
        key = self._definitions.namespace_key(function.__globals__)
        if key.kind != "library":
            names = self._names(function, key)
            values = [*names.values(), *(contents_of(cell) for cell in function.__closure__ or ())]
            filling |= {"globals": (key, names), "modules": imported_submodules(function.__code__, values)}
        return filling

    def _names(self, function: types.FunctionType, key: NamespaceKey) -> dict[str, object]:
        """Return the definitions among the globals of a function; watch the others."""
        names = function.__globals__
        noted = self._globals.setdefault(id(names), {})
        self._namespaces[id(names)] = names
        code = {}
        as_values = names_of_values(function.__code__)
        for name in global_names(function.__code__):
            value = names.get(name, MISSING)
            has_code = value is not MISSING and is_code(value)
            if has_code:
                code[name] = value
                if name in as_values:
                    self._note_use(value)
            if name not in noted:
                is_value = value is not MISSING and not has_code
                place = self._watched.add_place(ValuePlace("global", key, name), value) if is_value else None
                noted[name] = value, place
        return code

    def _note_use(self, value: object) -> None:
        """Note that a task may hand a definition on, in its result."""
        number = self._definitions.number_of(value)
        if number is not None:
            self.used_as_values.add(number)
