"""Makes the definitions of a snapshot's outline where it arrives: empty first, filled when all are made."""

from __future__ import annotations

import io
import pickle
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import NamespaceKey, library_namespace

__all__ = [
    "Outline", "ValuePlace", "make_cell", "make_class", "make_defined_function", "make_enumeration", "make_numbered",
    "make_task",
]  # fmt: skip


class ValuePlace(NamedTuple):
    """The place of a value in the program.

    Attributes
    ----------
    kind : str
        ``global``, ``cell``, ``attribute`` (of a class), ``item`` (of a function's or task's `__dict__`), ``default``
        or ``context`` (of a context variable).
    target
        Owner of the place: a `NamespaceKey`, a cell, a class, a function, a task or a context variable.
    key : str
    """

    kind: str
    target: Any
    key: str


_making = threading.local()


class Outline:
    """The definitions of a snapshot's outline; making them changes nothing else in the process.

    Parameters
    ----------
    data : bytes
        See `Snapshot.outline`.

    Attributes
    ----------
    objects : dict
        Definition by number.
    places : list of ValuePlace
        Places of values; the target of a global is its namespace.
    namespaces : dict
        Globals of the functions, by key.
    main : module
        The program as a module.
    """

    def __init__(self, data: bytes) -> None:
        self.objects: dict[int, Any] = {}
        self.main = types.ModuleType("__main__")
        self.namespaces: dict[NamespaceKey, dict[str, Any]] = {}
        before = getattr(_making, "outline", None)
        _making.outline = self
        try:
            unpickler = pickle.Unpickler(io.BytesIO(data))
            unpickler.load()
            fillings: list[tuple[Any, dict[str, Any]]] = []
            while (batch := unpickler.load()) is not None:
                fillings += batch
            self.places: list[ValuePlace] = unpickler.load()
            for datum, filling in fillings:
                self._fill(datum, filling)
            for datum, filling in fillings:  # a task reads the signature of its function
                if "task" in filling:
                    datum._set(*filling["task"])
                    vars(datum).update(filling["dict"])
        finally:
            _making.outline = before

    def namespace(self, key: NamespaceKey) -> dict[str, object]:
        """Return globals by their key, made empty when they are first used."""
        if key.kind == "library":
            return library_namespace(key)
        if key not in self.namespaces:
            self.namespaces[key] = vars(self.main) if key.kind == "program" else {}
            self.namespaces[key]["__builtins__"] = __builtins__
        return self.namespaces[key]

    def _fill(self, datum: Any, filling: dict[str, Any]) -> None:
        if isinstance(datum, type):
            _fill_class(datum, filling)
        elif isinstance(datum, types.FunctionType):
            for name, value in filling["set"].items():
                setattr(datum, name, value)
            vars(datum).update(filling["dict"])
            for name in filling.get("modules", ()):
                with suppress(ImportError):  # what needs it says so
                    import_module(name)
            if "globals" in filling:
                key, names = filling["globals"]
                self.namespace(key).update(names)
        elif "cell" in filling:
            datum.cell_contents = filling["cell"]


def _fill_class(cls: type, filling: dict[str, Any]) -> None:
    line = filling["attributes"].get("__firstlineno__")
    for name, value in filling["attributes"].items():
        type.__setattr__(cls, name, value)
    if line is not None:
        type.__setattr__(cls, "__firstlineno__", line)  # setting any other attribute removes it
    for registered in filling.get("registered", ()):
        cls.register(registered)  # type: ignore[attr-defined]
    for name, attributes in filling.get("members", {}).items():
        vars(cls.__members__[name]).update(attributes)  # type: ignore[attr-defined]


def _numbered(number: int, made: Any) -> Any:
    _making.outline.objects[number] = made
    return made


def make_numbered(number: int, make: Callable[..., Any], arguments: tuple[object, ...], *_: object) -> object:
    """Make a definition by a call."""
    return _numbered(number, make(*arguments))


def make_cell() -> types.CellType:
    """Make an empty cell."""
    return types.CellType()


def make_task(number: int) -> TaskFunction:
    """Make a task without a function."""
    return _numbered(number, TaskFunction.__new__(TaskFunction))  # type: ignore[no-any-return]


def make_defined_function(
    number: int,
    key: NamespaceKey,
    about: dict[str, Any],
    code: types.CodeType,
    names: tuple[str, str, str | None, str | None],
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    """Make a function over the globals that `key` names."""
    found = _making.outline.namespace(key)
    if key.kind != "library":
        found.update({each: value for each, value in about.items() if each not in found or value is not None})
    name, qualname, module, doc = names
    made = types.FunctionType(code, found, name, None, closure)
    made.__qualname__, made.__doc__ = qualname, doc
    made.__module__ = module  # type: ignore[assignment]  # that of a function that was made by `exec` may be None
    return _numbered(number, made)  # type: ignore[no-any-return]


def make_class(number: int, metaclass: type, name: str, bases: tuple[Any, ...], given: dict[str, Any]) -> type:
    """Make a class.

    The program's own bases and metaclass are still empty: their hooks for new classes, such as `__init_subclass__`,
    have run in the program and do not run again.
    """
    made = types.new_class(name, bases, {"metaclass": metaclass}, lambda names: names.update(given))
    return _numbered(number, made)  # type: ignore[no-any-return]


def make_enumeration(
    number: int, bases: tuple[type, ...], name: str, qualname: str, members: dict[str, Any], module: str
) -> type:
    """Make an enumeration; the metaclass makes its members from their values."""
    metaclass: Any = type(bases[-1])
    names = metaclass.__prepare__(name, bases)
    for member, value in members.items():
        names[member] = value
    made = metaclass.__new__(metaclass, name, bases, names)
    made.__module__, made.__qualname__ = module, qualname
    return _numbered(number, made)  # type: ignore[no-any-return]
