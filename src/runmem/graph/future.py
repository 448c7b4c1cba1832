"""The value that a task will have."""

from __future__ import annotations

import functools
from typing import Any, NoReturn

from runmem.errors import ArgumentError
from runmem.graph.call import Version

__all__ = ["Future"]


class Future:
    """Stands for a value that a task returns; `wait_on` gives the value.

    It can be an argument of another task, also inside lists, dictionaries and objects. It does not synchronise by
    itself: it is always true, and arithmetic, `len` and iteration raise TypeError. When the task declared a class of
    the user's as its return type, that class's task methods can be called on the future.
    """

    __slots__ = ("version", "_cls", "__weakref__")

    def __init__(self, version: Version, cls: type | None = None) -> None:
        self.version = version
        self._cls = cls

    def __getattr__(self, name: str) -> Any:
        from runmem.graph.task import TaskFunction  # they know each other: a future of an object has its task methods

        method = getattr(self._cls, name, None) if not name.startswith("__") else None
        if isinstance(method, TaskFunction):
            return functools.partial(method, self)
        raise AttributeError(
            f"{name!r}: this is the future of task {self.version.execution.name!r}, not its value; "
            "get the value with wait_on first."
        )

    def __repr__(self) -> str:
        return f"<Future of {self.version.execution.name} (call {self.version.execution.task_id})>"

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            f"{self!r} cannot be pickled by itself: pass it to a task, or get its value with wait_on first."
        )
