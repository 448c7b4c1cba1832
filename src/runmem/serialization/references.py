"""Pickles of values, in which definitions of the program stand as their numbers (see `definitions`).

For arguments, for the values of globals and for results. What is no definition of the program and cannot be imported
either, such as a function that was made by another one, travels by value; its globals are those where it arrives.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import (
    CachedFunction,
    Definitions,
    NamespaceKey,
    current_definitions,
    program_definitions,
)
from runmem.serialization.pickling import Pickler, global_names, imported_submodules
from runmem.serialization.standard_types import reduced

__all__ = ["ATOMS", "Empty", "ReferencePickler", "attributes_of", "contents_of", "dumps", "loads"]

ATOMS = frozenset((int, float, complex, bool, str, bytes, type(None)))
"""Types whose values are themselves wherever they are: nothing can change them, and each means the same everywhere."""

_NUMBERED = (types.FunctionType, type, TaskFunction, CachedFunction)


class Empty:
    """Stands for what a cell holds before its variable is assigned."""


class ReferencePickler(Pickler):
    """Pickles values; what has a number among the definitions stands as that.

    Parameters
    ----------
    buffer_callback : callable, optional
        As in `pickle.Pickler`.

    Attributes
    ----------
    numbers : set of int
        The definitions that were referred to.
    """

    def __init__(
        self, file: io.BytesIO, definitions: Definitions, buffer_callback: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffer_callback)
        self._definitions = definitions
        self.numbers: set[int] = set()

    def reducer_override(self, obj: Any) -> Any:
        """Return how `obj` is made again."""
        if isinstance(obj, _NUMBERED) or type(obj) is ContextVar:
            number = self._number_of(obj)
            if number is not None:
                self.numbers.add(number)
                return _definition, (number,)
            if type(obj) is types.FunctionType and _is_local(obj):
                return self._function(obj)
        return reduced(obj) or super().reducer_override(obj)

    def _number_of(self, obj: Any) -> int | None:
        if type(obj) is types.FunctionType and _is_local(obj) and self._definitions is program_definitions:
            # Made by a function, and perhaps for this one call: it travels inside what refers to it, unless it is part
            # of what a task refers to.
            return program_definitions.known_number_of(obj)
        return self._definitions.number_of(obj)

    def _function(self, function: types.FunctionType) -> tuple[Any, ...]:
        names = {
            name: function.__globals__[name] for name in global_names(function.__code__) if name in function.__globals__
        }
        key = self._definitions.namespace_key(function.__globals__)
        cells = [contents_of(cell) for cell in function.__closure__ or ()]
        state = {
            "globals": {} if key.kind == "library" else names,
            "modules": imported_submodules(function.__code__, [*names.values(), *cells]),
            "cells": cells,
            "set": attributes_of(function),
            "dict": dict(function.__dict__),
        }
        about = {name: function.__globals__.get(name) for name in ("__name__", "__file__", "__package__")}
        made = (
            key,
            about,
            function.__code__,
            function.__name__,
            len(cells) if function.__closure__ is not None else None,
        )
        return make_function, made, state, None, None, _complete_function


def _is_local(function: types.FunctionType) -> bool:
    return "<locals>" in function.__qualname__ or function.__name__ == "<lambda>" or function.__module__ is None


def contents_of(cell: types.CellType) -> Any:
    """Return what a cell holds, or `Empty`."""
    try:
        return cell.cell_contents
    except ValueError:
        return Empty


def attributes_of(function: types.FunctionType) -> dict[str, Any]:
    """Return what is set of a function after it was made, but for what its `__dict__` has."""
    names = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")
    found = {name: getattr(function, name) for name in names}
    if parameters := getattr(function, "__type_params__", ()):
        found["__type_params__"] = parameters
    return found


def make_function(
    key: NamespaceKey, about: dict[str, Any], code: types.CodeType, name: str, cells: int | None
) -> types.FunctionType:
    """Return a function over the globals that `key` names here, with empty cells."""
    definitions = current_definitions()
    names = definitions.namespace(key)
    if not definitions.is_program and key.kind != "library":
        for each, value in about.items():
            if value is not None:
                names.setdefault(each, value)
        names.setdefault("__builtins__", __builtins__)
    closure = None if cells is None else tuple(types.CellType() for _ in range(cells))
    return types.FunctionType(code, names, name, None, closure)


def _complete_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    for name, value in state["set"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    for cell, value in zip(function.__closure__ or (), state["cells"], strict=True):
        if value is not Empty:
            cell.cell_contents = value
    if not current_definitions().is_program:
        for name, value in state["globals"].items():
            function.__globals__.setdefault(name, value)


def _definition(number: int) -> Any:
    return current_definitions().object_of(number)


def dumps(value: Any, buffer_callback: Callable[[Any], Any] | None = None) -> bytes:
    """Return the pickle of a value, by the definitions that are meant in this thread."""
    file = io.BytesIO()
    ReferencePickler(file, current_definitions(), buffer_callback).dump(value)
    return file.getvalue()


def loads(data: bytes, buffers: Iterable[Any] = ()) -> Any:
    """Return the value of a pickle, by the definitions that are meant in this thread."""
    return pickle.loads(data, buffers=buffers)
