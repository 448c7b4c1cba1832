"""Names and values of the program from which a snapshot was made: they show whether it is current."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import repeat
from operator import is_
from typing import Any, NamedTuple

from runmem.graph.task import TaskFunction
from runmem.serialization.class_parts import PICKLE_S_OWN
from runmem.serialization.definitions import CachedFunction, by_value
from runmem.serialization.outline import ValuePlace
from runmem.serialization.references import ATOMS, Empty, contents_of

__all__ = ["CONTAINERS", "MISSING", "WatchedMapping", "WatchedValues", "is_code", "own_length"]

CONTAINERS = (list, dict, tuple, set, frozenset)
MISSING: Any = types.new_class("MISSING")


def is_code(value: object) -> bool:
    """Return True if a value belongs to the outline: it is a definition, or part of a library."""
    kind = type(value)
    if kind in ATOMS or kind in CONTAINERS:
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


def own_length(mapping: Mapping[str, object]) -> int:
    """Return the number of entries of a mapping, without what `pickle` adds to a class."""
    return len(mapping) - (PICKLE_S_OWN in mapping)


class WatchedMapping(NamedTuple):
    """Entries of a mapping as they were.

    Attributes
    ----------
    places : list of int or None
        The place of each value; None for code.
    length : int or None
        Number of all entries of the mapping, where there must be no others.
    """

    mapping: Mapping[str, object]
    names: tuple[str, ...]
    values: list[object]
    places: list[int | None]
    length: int | None


class WatchedValues:
    """Values in the places of a snapshot, and the names and cells that refer to them and to its code.

    Attributes
    ----------
    places : list of ValuePlace
    values : list
        The value in each place.
    watches : list of WatchedMapping
    """

    def __init__(self) -> None:
        self.places: list[ValuePlace] = []
        self.values: list[object] = []
        self.watches: list[WatchedMapping] = []
        self._cells: list[tuple[types.CellType, int | None]] = []
        self._cell_values: list[object] = []
        self._functions: list[tuple[types.FunctionType, types.CodeType]] = []
        self._defaults: list[tuple[types.FunctionType, str, int]] = []
        self._variables: list[tuple[ContextVar[Any], int]] = []

    def add_place(self, place: ValuePlace, value: object) -> int:
        """Add a place with its value; return its number."""
        self.places.append(place)
        self.values.append(value)
        return len(self.places) - 1

    def add_cell(self, cell: types.CellType) -> bool:
        """WatchedMapping a cell; return True if it contains code."""
        value, place = contents_of(cell), None
        has_code = value is not Empty and is_code(value)
        if not has_code:
            place = self.add_place(ValuePlace("cell", cell, ""), value)
        self._cells.append((cell, place))
        self._cell_values.append(value)
        return has_code

    def add_variable(self, variable: ContextVar[Any]) -> None:
        """WatchedMapping a context variable."""
        place = self.add_place(ValuePlace("context", variable, ""), variable.get(Empty))
        self._variables.append((variable, place))

    def add_function(self, function: types.FunctionType) -> None:
        """WatchedMapping the code and the defaults of a function."""
        self._functions.append((function, function.__code__))
        for name in ("__defaults__", "__kwdefaults__"):
            place = self.add_place(ValuePlace("default", function, name), getattr(function, name))
            self._defaults.append((function, name, place))

    def add_mapping(
        self, mapping: Mapping[str, object], owner: object, kind: str, data: dict[str, object], watched: tuple[str, ...]
    ) -> None:
        """WatchedMapping all entries of a mapping; `data`: those that are values."""
        places = {name: self.add_place(ValuePlace(kind, owner, name), value) for name, value in data.items()}
        values = [mapping[name] for name in watched]
        numbers = [places.get(name) for name in watched]
        self.watches.append(WatchedMapping(mapping, watched, values, numbers, own_length(mapping)))

    def are_unchanged(self) -> bool:
        """Return True if every name still refers to the same object: true at most calls, and quick."""
        for mapping, names, values, _, length in self.watches:
            if length is not None and own_length(mapping) != length:
                return False
            if names and not all(map(is_, map(mapping.get, names, repeat(MISSING)), values)):
                return False
        for (cell, _), value in zip(self._cells, self._cell_values, strict=True):
            if contents_of(cell) is not value:
                return False
        for function, name, place in self._defaults:
            if getattr(function, name) is not self.values[place]:
                return False
        for variable, place in self._variables:
            if variable.get(Empty) is not self.values[place]:
                return False
        return self._is_code_unchanged()

    def update(self) -> bool:
        """Read the present values; return False if a definition has changed, so that the outline no longer fits."""
        if not (self._is_code_unchanged() and all(map(self._update_watch, self.watches))):
            return False
        for index, (cell, place) in enumerate(self._cells):
            value = contents_of(cell)
            if value is not self._cell_values[index]:
                if place is None or is_code(value):
                    return False
                self._cell_values[index] = self.values[place] = value
        for function, name, place in self._defaults:
            self.values[place] = getattr(function, name)
        for variable, place in self._variables:
            self.values[place] = variable.get(Empty)
        return True

    def _update_watch(self, watch: WatchedMapping) -> bool:
        mapping, names, values, places, length = watch
        if length is not None and own_length(mapping) != length:
            return False
        for index, (name, old, place) in enumerate(zip(names, values, places, strict=True)):
            value = mapping.get(name, MISSING)
            if value is not old:
                if place is None or value is MISSING or is_code(value):
                    return False
                values[index] = self.values[place] = value
        return True

    def _is_code_unchanged(self) -> bool:
        return all(function.__code__ is code for function, code in self._functions)

    def describe(self, place: int) -> str:
        """Return a name of a place for messages."""
        kind, target, key = self.places[place]
        if kind == "global":
            return f"global {key!r}"
        if kind == "cell":
            return "a variable of an enclosing function"
        name = getattr(target, "__qualname__", getattr(target, "name", "?"))
        return f"{name}.{key}" if key else str(name)
