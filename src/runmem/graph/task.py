"""`@task`: declares that calls of a function may run in parallel."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

from runmem.errors import TaskDeclarationError
from runmem.graph.current import current_program
from runmem.graph.returns import declared_returns
from runmem.graph.signature import TaskSignature

__all__ = ["task", "TaskFunction"]

_CAMEL = {
    "targetDirection": "target_direction", "varargsType": "varargs_type", "isReplicated": "is_replicated",
    "isDistributed": "is_distributed", "timeOut": "time_out", "computingNodes": "computing_nodes",
    "processesPerNode": "processes_per_node", "isReduce": "is_reduce", "chunkSize": "chunk_size",
    "onFailure": "on_failure", "cacheReturns": "cache_returns",
}  # fmt: skip
# Options of PyCOMPSs that say where or how fast a task runs: the result is the same without them.
_WITHOUT_EFFECT = {
    "priority", "is_replicated", "is_distributed", "computing_nodes", "processes_per_node", "is_reduce", "chunk_size",
    "cache_returns", "numba", "numba_flags", "numba_signature", "numba_declaration", "tracing_hook",
}  # fmt: skip
_NOT_YET = {"on_failure", "time_out", "defaults"}


class TaskFunction:
    """A function whose calls become tasks while a program runs under runmem, and are plain calls otherwise.

    Attributes
    ----------
    function : callable
        What was decorated.
    name, module, file : str
        Qualified name; name of the module (of the program's file for the program itself); source file.
    data_id : str or None
        What the task works on, if it was made for one call; it stands in that call's record.
    """

    data_id: str | None = None

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._set(function, options)

    def _set(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function = function
        self.options = options
        functools.update_wrapper(self, function)
        # A partial or a callable object has no name of its own: it goes by that of what it calls.
        self.__qualname__ = _qualified_name(function)
        self.__module__ = getattr(_innermost(function), "__module__", None) or "__main__"
        self.name = self.__qualname__.replace("<locals>.", "")
        code = getattr(_innermost(function), "__code__", None)
        self.file: str = code.co_filename if code is not None else ""
        self.module = Path(self.file).stem if self.__module__ == "__main__" and self.file else self.__module__
        where = f"@task on {self.name}"
        reserved = {"returns", "target_direction", "varargs_type"} | _WITHOUT_EFFECT | _NOT_YET
        self.signature = TaskSignature(
            function,
            {name: value for name, value in options.items() if name not in reserved},
            options.get("target_direction"),
            options.get("varargs_type"),
        )
        self.returns = declared_returns(function, options.get("returns"), where)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        program = current_program()
        if program is None:
            return self.function(*args, **kwargs)
        return program.call(self, args, kwargs)

    def made_for(self, data: bytes) -> TaskFunction:
        """Return the task as the record of one call names it, given that call's packed arguments; this one."""
        return self

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<task {self.module}.{self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if find_task(self.__module__, self.__qualname__) is self:
            return find_task, (self.__module__, self.__qualname__)
        return _empty, (), (self.function, self.options), None, None, _restore


def _empty() -> TaskFunction:
    return TaskFunction.__new__(TaskFunction)


def _restore(task: TaskFunction, state: tuple[Callable[..., Any], dict[str, Any]]) -> None:
    """Fill a task that was made empty first: its function may refer to the task itself."""
    task._set(*state)


def _innermost(function: Any) -> Any:
    while True:
        if hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, functools.partial):
            function = function.func
        else:
            return function


def _qualified_name(function: Any) -> str:
    """Return the qualified name of a function, of what a partial calls, or of a callable object's class."""
    while isinstance(function, functools.partial) and not hasattr(function, "__qualname__"):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)


def find_task(module: str, qualname: str) -> TaskFunction | None:
    """Return the task that an importable module holds under a qualified name, below whatever else decorates it.

    The program itself (``__main__``) is not importable on a worker: None.
    """
    if module == "__main__" or "<locals>" in qualname:
        return None
    if module not in sys.modules:
        __import__(module)
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    while found is not None and not isinstance(found, TaskFunction):
        found = getattr(found, "__wrapped__", None)
    return found


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a function as a task.

    Parameters
    ----------
    returns : int, type, list of types, or str, optional
        What it returns; more than one value gives a list of futures. Absent: taken from the type hint or from the
        ``return`` statements.
    target_direction : direction, optional
        What a method does with ``self``; default INOUT.
    varargs_type : direction, optional
        What it does with ``*args``; default IN.
    **options
        Every other keyword is the name of a parameter with its direction (default IN), for example ``data=INOUT`` or
        ``path=FILE_OUT``.

    Raises
    ------
    TaskDeclarationError
        At decoration, for a name that is no parameter or a direction that is none.

    Notes
    -----
    What the task does to a parameter that is only read nobody else sees; large arrays among them refuse it. Names and meaning are
    those of PyCOMPSs; options of PyCOMPSs that only say where a task runs are accepted and have no effect.
    """
    if function is not None:
        return _decorate(function, {})
    options = {_CAMEL.get(name, name): value for name, value in options.items()}
    return functools.partial(_decorate, options=options)


def _decorate(function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(TaskFunction(function.__func__, options))
    if not callable(function):
        raise TaskDeclarationError(f"@task: {function!r} is not a function; name directions as @task(parameter=INOUT).")
    for name in sorted(_NOT_YET & options.keys()):
        warnings.warn(f"@task({name}=...) of {_qualified_name(function)} has no effect in runmem yet", stacklevel=3)
    return TaskFunction(function, options)
