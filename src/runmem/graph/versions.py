"""Which version of each datum is the current one. Pure: knows no cluster and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

from runmem.graph.call import Version
from runmem.graph.future import Future

__all__ = ["ObjectVersions", "can_change"]

# One such object may be many data of the program at once: there is one 5, one "" and one () in the process.
_UNCHANGEABLE = frozenset(
    (int, float, complex, str, bytes, bool, type(None), range, frozenset, FunctionType, ModuleType)
)

_MOST_READ = 10_000
_NEVER = object()


def can_change(datum: object) -> bool:
    """Return True if a function can change an object of its caller's, and not only make another one."""
    if type(datum) is tuple:
        return any(can_change(item) for item in datum)
    return type(datum) not in _UNCHANGEABLE and not isinstance(datum, type)


class ObjectVersions:
    """The current versions of the program's objects that tasks have written.

    An object is known by its identity in the program and kept alive until it is deleted, so that its identity is not
    given to another one. Objects that tasks only read are not kept: they are read anew at each call. Numbers, texts and
    the like are never tracked: a function cannot change its caller's.
    """

    def __init__(self) -> None:
        self._written: dict[int, tuple[Any, Version]] = {}
        self._read: dict[int, None] = {}  # identities only: a hint for `forget`

    def current(self, datum: Any) -> Version | None:
        """Return the version that a reader gets now; None: the object itself, no task has written it."""
        if type(datum) is Future:
            return datum.version
        found = self._written.get(id(datum))
        return found[1] if found is not None else None

    def write(self, datum: object, version: Version) -> bool:
        """Make `version` the current one of `datum`; return False for an object that cannot be tracked."""
        if type(datum) is Future:
            datum.version = version
        elif can_change(datum):
            self._written[id(datum)] = (datum, version)
        else:
            return False
        return True

    def read(self, data: Iterable[object]) -> None:
        """Note objects that a task reads, the newest of them."""
        for datum in data:
            if type(datum) not in _UNCHANGEABLE:
                self._read[id(datum)] = None
        while len(self._read) > _MOST_READ:
            del self._read[next(iter(self._read))]

    def is_used(self, datum: object) -> bool:
        """Return True if a task has read or written an object, as far as that is known, and it was not forgotten."""
        return id(datum) in self._written or id(datum) in self._read

    def written(self) -> list[int]:
        """Return the identities of the objects that tasks have written."""
        return list(self._written)

    def forget(self, datum: object) -> bool:
        """Stop tracking an object; return whether a task has used it, as far as that is known.

        The value of a future is released.
        """
        was_written = self._written.pop(id(datum), _NEVER) is not _NEVER
        was_read = self._read.pop(id(datum), _NEVER) is not _NEVER
        return datum.delete() if type(datum) is Future else was_written or was_read

    def __bool__(self) -> bool:
        """Whether any object is tracked."""
        return bool(self._written)
