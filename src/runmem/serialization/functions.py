"""The function of a task on its way to a worker: by reference where a worker can import it, else by value."""

from __future__ import annotations

import dis
import pickle
import re
import sys
import types
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np

from runmem.errors import ArgumentError
from runmem.graph.task import TaskFunction, find_task
from runmem.serialization.pickling import dumps

__all__ = ["FunctionPacker", "load_function"]

_UNCHANGING = (
    int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range, slice, Enum, PurePath, re.Pattern,
    types.ModuleType, type, types.BuiltinFunctionType, types.MethodDescriptorType, np.generic, np.dtype, np.ufunc,
)  # fmt: skip
_MISSING = object()


class _References:
    """What a function refers to by name, and the functions that it refers to in turn.

    Attributes
    ----------
    can_change : bool
        Whether some of it can change in place, so that only packing it again is safe.
    """

    def __init__(self, function: Any) -> None:
        self.can_change = False
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._classes: list[tuple[type, dict[str, Any]]] = []
        self._seen: set[int] = set()
        self._visit(function)

    def hold(self) -> bool:
        """Tell whether every name still stands for the same object."""
        if self.can_change:
            return False
        for names, name, value in self._globals:
            if names.get(name, _MISSING) is not value:
                return False
        for cls, attributes in self._classes:
            now = vars(cls)
            if len(now) != len(attributes) or any(now.get(n, _MISSING) is not v for n, v in attributes.items()):
                return False
        return all(_contents(cell) is value for cell, value in self._cells)

    def _visit(self, item: Any) -> None:
        if isinstance(item, TaskFunction):
            item = item.function
        if id(item) in self._seen:
            return
        self._seen.add(id(item))
        if isinstance(item, types.FunctionType):
            if item.__module__ == "__main__" or "<locals>" in item.__qualname__:  # others travel by reference
                self._visit_function(item)
        elif isinstance(item, type) and (item.__module__ == "__main__" or "<locals>" in item.__qualname__):
            self._classes.append((item, dict(vars(item))))  # travels by value, with its attributes
        elif isinstance(item, (tuple, frozenset)):
            for part in item:
                self._visit(part)
        elif not isinstance(item, _UNCHANGING) and item is not _MISSING:
            self.can_change = True

    def _visit_function(self, function: types.FunctionType) -> None:
        for name in sorted(_global_names(function.__code__)):
            value = function.__globals__.get(name, _MISSING)
            self._globals.append((function.__globals__, name, value))
            self._visit(value)
        for cell in function.__closure__ or ():
            self._cells.append((cell, _contents(cell)))
            self._visit(_contents(cell))
        for value in [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
            self._visit(value)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty: not assigned yet
        return _MISSING


def _global_names(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


class FunctionPacker:
    """Packs the function of each task once, and again only when something that it refers to has changed.

    A function of the program itself travels with the globals that it uses. They are compared by identity at each call;
    a function that uses a global which can change in place (a list, say) is packed at each call. A task that a worker
    can import travels by reference, once and for all.
    """

    def __init__(self) -> None:
        self._packed: dict[TaskFunction, tuple[_References | None, bytes]] = {}

    def pack(self, task: TaskFunction) -> bytes:
        """Return the packed function.

        Raises
        ------
        ArgumentError
            If a value that the function refers to cannot be pickled.
        """
        known = self._packed.get(task)
        if known is not None and (known[0] is None or known[0].hold()):
            return known[1]
        importable = find_task(task.__module__, task.__qualname__) is task
        references = None if importable else _References(task.function)
        data = self._dumps(task)
        self._packed[task] = references, data
        return data

    def _dumps(self, task: TaskFunction) -> bytes:
        try:
            data: bytes = dumps(task)
        except Exception as error:
            raise ArgumentError(
                f"task {task.name} cannot be sent to a worker: something it refers to could not be pickled "
                f"({type(error).__name__}: {error}). Make that value inside the task, or pass it as an argument."
            ) from error
        return data


@lru_cache(maxsize=512)
def load_function(data: bytes) -> tuple[TaskFunction, Callable[..., Any]]:
    """Return the task that `FunctionPacker` packed, and what runs it."""
    task = pickle.loads(data)
    if task.__module__ == "__main__":
        _show_in_main(task)
    return task, task.run


def _show_in_main(task: TaskFunction) -> None:
    """Let a task of the program, and what it refers to, be found in this process's ``__main__`` as in the program's.

    So that plain `pickle` works inside the task, and with it a `multiprocessing.Pool` that it makes.
    """
    main = vars(sys.modules["__main__"])
    names = getattr(task.function, "__globals__", {})
    main.update({name: value for name, value in names.items() if not name.startswith("__")})
    if "." not in task.__qualname__:
        main[task.__qualname__] = task
