"""The function of a task on its way to a worker: by reference where a worker can import it, else by value."""

from __future__ import annotations

import dis
import pickle
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import cloudpickle

from runmem.errors import ArgumentError
from runmem.graph.task import TaskFunction, find_task

__all__ = ["FunctionPacker", "load_function"]

_CONSTANT = (int, float, str, bytes, bool, complex, type(None), types.ModuleType, type, types.BuiltinFunctionType)


class FunctionPacker:
    """Packs the function of each task once, and again only when something that it refers to has changed.

    A function of the program itself travels with the globals that it uses. They are compared by identity at each call;
    a function that uses a global which can change in place (a list, say) is packed at each call.
    """

    def __init__(self) -> None:
        self._packed: dict[int, tuple[TaskFunction, tuple[int, ...] | None, bytes]] = {}
        self._names: dict[types.CodeType, tuple[str, ...]] = {}

    def pack(self, task: TaskFunction) -> bytes:
        """Return the packed function.

        Raises
        ------
        ArgumentError
            If a value that the function refers to cannot be pickled.
        """
        known = self._packed.get(id(task))
        mark: tuple[int, ...] | None = ()
        if known is not None:
            if known[1] == ():
                return known[2]
            mark = self._mark(task.function)
            if mark is not None and mark == known[1]:
                return known[2]
        elif find_task(task.__module__, task.__qualname__) is not task:
            mark = self._mark(task.function)
        data = self._dumps(task)
        self._packed[id(task)] = task, mark, data
        return data

    def _dumps(self, task: TaskFunction) -> bytes:
        try:
            data: bytes = cloudpickle.dumps(task)
        except Exception as error:
            raise ArgumentError(
                f"task {task.name} cannot be sent to a worker: something it refers to could not be pickled "
                f"({type(error).__name__}: {error}). Make that value inside the task, or pass it as an argument."
            ) from error
        return data

    def _mark(self, function: Any) -> tuple[int, ...] | None:
        """Return the identities of all that the function refers to, or None if some of it can change in place."""
        found: list[int] = [-1]  # never empty: that stands for a function that is sent by reference
        seen: set[int] = set()
        waiting = [function]
        while waiting:
            item = waiting.pop()
            if id(item) in seen:
                continue
            seen.add(id(item))
            found.append(id(item))
            if isinstance(item, TaskFunction):
                waiting.append(item.function)
            elif isinstance(item, types.FunctionType):
                if item.__module__ == "__main__" or "<locals>" in item.__qualname__:
                    waiting.extend(self._referred(item))
            elif not isinstance(item, _CONSTANT):
                return None
        return tuple(found)

    def _referred(self, function: types.FunctionType) -> Iterator[Any]:
        names = self._names.get(function.__code__)
        if names is None:
            names = self._names[function.__code__] = tuple(_global_names(function.__code__))
        for name in names:
            if name in function.__globals__:
                yield function.__globals__[name]
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # empty: not assigned yet
                yield None
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()


def _global_names(code: types.CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


@lru_cache(maxsize=512)
def load_function(data: bytes) -> tuple[TaskFunction, Callable[..., Any]]:
    """Return the task that `FunctionPacker` packed, and its function."""
    task = pickle.loads(data)
    return task, task.function
