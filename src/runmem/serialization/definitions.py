"""The functions and classes that travel by value, those of the program itself, and their owners.

In the program each of them is the program's own object, always. Pickles of arguments and results have its number: they
contain "class 7", and the process that loads them has that class already. In the program that is the object itself;
on a worker it belongs to the copy of the program in which the call runs (`program_copy`). So an existing definition is
never overwritten, and an object made by one task has, in another, the class as it is there.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import cloudpickle

from runmem.errors import ResultError
from runmem.graph.task import TaskFunction, find_task

__all__ = [
    "CachedFunction", "Definitions", "MAIN", "NamespaceKey", "NoDefinitions", "ProgramDefinitions", "by_value",
    "current_definitions", "library_namespace", "namespace_key", "program_definitions", "run_program",
    "set_current_definitions",
]  # fmt: skip

CachedFunction = type(functools.lru_cache(lambda: None))
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python code has made
_PROGRAM = ("__main__", "__mp_main__")
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OWN_PACKAGES = ("runmem", "pycompss")


class NamespaceKey(NamedTuple):
    """Names the globals of a function: those of the program, of a library's module, or others that have a number."""

    kind: str  # "program", "library" or "other"
    name: str | int


MAIN = NamespaceKey("program", "__main__")


class Definitions(Protocol):
    """An owner of definitions: the program itself, or a worker's copy of it."""

    def number_of(self, datum: object) -> int | None:
        """Return the number of a definition; None: it has none here."""

    def object_of(self, number: int) -> Any:
        """Return the definition with this number."""

    def adopt(self, number: int, datum: object) -> None:
        """Use a definition that came with a value as the one with this number, until the call ends."""

    def namespace_key(self, names: dict[str, object]) -> NamespaceKey:
        """Return the key of a function's globals."""

    def namespace(self, key: NamespaceKey) -> dict[str, object]:
        """Return the globals of functions with this key."""

    @property
    def is_program(self) -> bool:
        """Whether this is the program itself, of which no pickle that arrives changes anything."""


def by_value(datum: object) -> bool:
    """Return True if a function, class or task travels by value, because a worker cannot import it."""
    if isinstance(datum, TaskFunction):
        return find_task(datum.__module__, datum.__qualname__) is not datum
    if isinstance(datum, ContextVar):
        return True
    if isinstance(datum, type):
        return bool(datum.__flags__ & _HEAP_TYPE) and not _is_importable(datum)
    return isinstance(datum, (FunctionType, CachedFunction)) and not _is_importable(datum)


def _is_importable(datum: Any) -> bool:
    module, name = getattr(datum, "__module__", None), getattr(datum, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module in _PROGRAM or "<locals>" in name:
        return False
    chosen = cloudpickle.list_registry_pickle_by_value()
    if chosen and any(module == other or module.startswith(other + ".") for other in chosen):
        return False
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is datum


def namespace_key(names: dict[str, object]) -> NamespaceKey | None:
    """Return the key of the globals of a module of the program or of a library; None for any others.

    The globals of a library are the worker's own: its functions see the library as it is there. Those of other modules
    travel with the functions that travel.
    """
    module = names.get("__name__")
    if not isinstance(module, str) or vars(sys.modules.get(module, object)) is not names:
        return None
    if module in _PROGRAM:
        return MAIN
    file = names.get("__file__")
    built_in = file is None and names.get("__spec__") is not None
    if module.partition(".")[0] in _OWN_PACKAGES or built_in or str(file).startswith(_LIBRARIES):
        return NamespaceKey("library", module)
    return None


class ProgramDefinitions:
    """The definitions of the program that runs in this process.

    An object keeps its number while it lives; nothing is kept alive here.
    """

    is_program = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._numbers: dict[int, tuple[Callable[[], Any], int]] = {}
        self._objects: dict[int, Callable[[], Any]] = {}
        self._other_namespaces: dict[int, tuple[dict[str, object], NamespaceKey]] = {}

    def number_of(self, datum: object) -> int | None:
        """Return the number of a definition that travels by value; None: it travels by reference."""
        known = self._numbers.get(id(datum))
        if known is not None and known[0]() is datum:
            return known[1]
        return self._add(datum) if by_value(datum) else None

    def known_number_of(self, datum: object) -> int | None:
        """Return the number that a definition has already, if it has one."""
        known = self._numbers.get(id(datum))
        return known[1] if known is not None and known[0]() is datum else None

    def _add(self, datum: object) -> int:
        with self._lock:
            self._last += 1
            number, identity = self._last, id(datum)

            def forget(_: object) -> None:
                self._objects.pop(number, None)
                if self._numbers.get(identity, (None, 0))[1] == number:
                    self._numbers.pop(identity, None)

            # A context variable takes no weak references; a program has few of them.
            kept = (lambda: datum) if isinstance(datum, ContextVar) else weakref.ref(datum, forget)
            self._numbers[identity] = kept, number
            self._objects[number] = kept
            return number

    def object_of(self, number: int) -> Any:
        """Return the program's own object."""
        kept = self._objects.get(number)
        datum = kept() if kept is not None else None
        if datum is None:
            raise ResultError(
                "a result refers to a function or class of the program that the program has deleted meanwhile: keep "
                "it until the result is fetched."
            )
        return datum

    def adopt(self, number: int, datum: object) -> None:
        """Do nothing: a definition that the program has deleted does not come back under its number."""

    def namespace_key(self, names: dict[str, object]) -> NamespaceKey:
        """Return the key of a function's globals."""
        key = namespace_key(names)
        if key is None:
            _, key = self._other_namespaces.setdefault(id(names), (names, NamespaceKey("other", id(names))))
        return key

    def namespace(self, key: NamespaceKey) -> dict[str, object]:
        """Return the program's own globals."""
        if key.kind == "other":
            return next((names for names, known in self._other_namespaces.values() if known == key), {})
        return vars(sys.modules[str(key.name)])


class NoDefinitions:
    """No definitions, for a call that needs none of the program: those that it makes travel by value."""

    is_program = False

    def number_of(self, datum: object) -> int | None:
        """Return None."""
        return None

    def object_of(self, number: int) -> Any:
        """Raise ResultError: the definition is not here."""
        raise ResultError(f"definition {number} of the program is needed and did not come along: please report this")

    def adopt(self, number: int, datum: object) -> None:
        """Do nothing: it travels on by value."""

    def namespace_key(self, names: dict[str, object]) -> NamespaceKey:
        """Return the key of a function's globals."""
        return namespace_key(names) or NamespaceKey("other", id(names))

    def namespace(self, key: NamespaceKey) -> dict[str, object]:
        """Return the globals of a library's module, else an empty dictionary."""
        return library_namespace(key) if key.kind == "library" else {}


def library_namespace(key: NamespaceKey) -> dict[str, object]:
    """Return the globals of a module that this process can import."""
    return vars(import_module(str(key.name)))


program_definitions = ProgramDefinitions()
"""The definitions of the program in this process."""

_NO_DEFINITIONS = NoDefinitions()
_current = threading.local()
_of_process: Definitions = _NO_DEFINITIONS


def current_definitions() -> Definitions:
    """Return the definitions to which numbers refer in this thread.

    Those of a copy while it is used; else the program's own if it runs in this process, and none in any other.
    """
    found: Definitions = getattr(_current, "definitions", _of_process)
    return found


def run_program(runs: bool) -> None:
    """Set whether the program runs in this process; in processes that are forked from it, it does not."""
    global _of_process
    _of_process = program_definitions if runs else _NO_DEFINITIONS


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: run_program(False))


def set_current_definitions(definitions: Definitions | None) -> None:
    """Set the definitions to which numbers refer in this thread; None: those of the process."""
    if definitions is None:
        vars(_current).pop("definitions", None)
    else:
        _current.definitions = definitions
