"""Pickles values; definitions of the program are replaced by their numbers (see `definitions`).

For arguments, values of globals and results. A function that is no definition of the program and cannot be imported
either, such as one made by another function, travels by value; its globals are those where it arrives.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from runmem.errors import ResultError
from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import (
    CachedFunction,
    Definitions,
    NamespaceKey,
    ProgramDefinitions,
    current_definitions,
)
from runmem.serialization.lent_arrays import reduced_array
from runmem.serialization.pickling import Pickler, global_names, imported_submodules
from runmem.serialization.standard_types import reduced

__all__ = ["ATOMS", "Empty", "ReferencePickler", "attributes_of", "contents_of", "dumps", "loads"]

ATOMS = frozenset((int, float, complex, bool, str, bytes, type(None)))
"""Types whose values are themselves wherever they are: nothing can change them, and each means the same everywhere."""

_NUMBERED = (types.FunctionType, type, TaskFunction, CachedFunction)
_COME_ALONG = (types.FunctionType, TaskFunction)
"""Types that a worker's result contains beside their number: a task that gets the result may not have them."""
_new: WeakSet[Any] = WeakSet()


class Empty:
    """Stands for the content of a cell whose variable is not assigned yet."""


class ReferencePickler(Pickler):
    """Pickles values; a definition with a number is replaced by that.

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
        self, file: io.BytesIO, definitions: Definitions, buffer_callback: Callable[[object], Any] | None = None
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffer_callback)
        self._definitions = definitions
        self.numbers: set[int] = set()

    def reducer_override(self, obj: object) -> object:
        """Return the reduced form of `obj`."""
        if isinstance(obj, _NUMBERED) or type(obj) is ContextVar:
            number = self._number_of(obj)
            if number is not None and (self._definitions.is_program or not isinstance(obj, _COME_ALONG)):
                self.numbers.add(number)
                return _definition, (number,)
            if type(obj) is types.FunctionType and (number is not None or _is_local(obj)):
                return self._function(obj, number)
            if type(obj) is TaskFunction and number is not None:
                return _task_made, (number,), (obj.function, obj.options), None, None, _complete_task
        return reduced(obj) or reduced_array(obj) or super().reducer_override(obj)

    def _number_of(self, obj: object) -> int | None:
        definitions = self._definitions
        if type(obj) is types.FunctionType and _is_local(obj) and isinstance(definitions, ProgramDefinitions):
            # Made by a function, and perhaps for this one call: it travels inside what refers to it, unless it is part
            # of what a task refers to.
            return definitions.known_number_of(obj)
        return definitions.number_of(obj)

    def _function(self, function: types.FunctionType, number: int | None) -> tuple[object, ...]:
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
        count = len(cells) if function.__closure__ is not None else None
        made = number, key, about, function.__code__, function.__name__, count
        return _function_made, made, state, None, None, _complete_function


def _is_local(function: types.FunctionType) -> bool:
    return "<locals>" in function.__qualname__ or function.__name__ == "<lambda>" or function.__module__ is None


def contents_of(cell: types.CellType) -> object:
    """Return the content of a cell, or `Empty`."""
    try:
        return cell.cell_contents
    except ValueError:
        return Empty


def attributes_of(function: types.FunctionType) -> dict[str, object]:
    """Return the attributes that are set in a function after it is made, without those in its `__dict__`."""
    names = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")
    found = {name: getattr(function, name) for name in names}
    if parameters := getattr(function, "__type_params__", ()):
        found["__type_params__"] = parameters
    return found


def _known(number: int | None) -> Any:
    """Return the definition with this number, if there is one here."""
    if number is None:
        return None
    try:
        return current_definitions().object_of(number)
    except ResultError:
        return None


def _adopted(made: Any, number: int | None) -> Any:
    """Note that a definition is new here, and its number, with which it may travel on."""
    _new.add(made)
    if number is not None:
        current_definitions().adopt(number, made)
    return made


def _function_made(
    number: int | None,
    key: NamespaceKey,
    about: dict[str, Any],
    code: types.CodeType,
    name: str,
    cells: int | None,
) -> types.FunctionType:
    """Return the function with this number, else one over the globals that `key` names here, with empty cells."""
    known: types.FunctionType | None = _known(number)
    if known is not None:
        return known
    definitions = current_definitions()
    names = definitions.namespace(key)
    if not definitions.is_program and key.kind != "library":
        for each, value in about.items():
            if value is not None:
                names.setdefault(each, value)
        names.setdefault("__builtins__", __builtins__)
    closure = None if cells is None else tuple(types.CellType() for _ in range(cells))
    return _adopted(types.FunctionType(code, names, name, None, closure), number)  # type: ignore[no-any-return]


def _complete_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    if function not in _new:
        return
    _new.discard(function)
    for name, value in state["set"].items():
        setattr(function, name, value)
    function.__dict__.update(state["dict"])
    for cell, value in zip(function.__closure__ or (), state["cells"], strict=True):
        if value is not Empty:
            cell.cell_contents = value
    if not current_definitions().is_program:
        for name, value in state["globals"].items():
            function.__globals__.setdefault(name, value)


def _task_made(number: int) -> TaskFunction:
    """Return the task with this number, else one without a function."""
    known: TaskFunction | None = _known(number)
    if known is not None:
        return known
    return _adopted(TaskFunction.__new__(TaskFunction), number)  # type: ignore[no-any-return]


def _complete_task(task: TaskFunction, state: tuple[Any, dict[str, object]]) -> None:
    if task in _new:
        _new.discard(task)
        task._set(*state)


def _definition(number: int) -> object:
    return current_definitions().object_of(number)


def dumps(value: object, buffer_callback: Callable[[object], Any] | None = None) -> bytes:
    """Return the pickle of a value, with the definitions of this thread."""
    file = io.BytesIO()
    ReferencePickler(file, current_definitions(), buffer_callback).dump(value)
    return file.getvalue()


def loads(data: bytes | memoryview, buffers: Iterable[object] = ()) -> Any:
    """Return the value of a pickle, with the definitions of this thread."""
    return pickle.loads(data, buffers=buffers)
