"""Pickles the program's own functions and values; code keeps the name of its file."""

from __future__ import annotations

import dis
import io
import pickle
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import CodeType, ModuleType
from typing import Any
from weakref import WeakSet

import cloudpickle

from runmem.shadowed import reduce_shadowed

__all__ = ["Pickler", "dumps", "dumps_data", "global_names", "imported_submodules", "names_of_values"]

_CLASSES = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID  # private: tests/serialization/test_pickling.py watches
_new: WeakSet[type] = WeakSet()
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles as `cloudpickle` does, and keeps the file name of code.

    From 3.1.3 on cloudpickle puts ``<dynamic-code>`` in place of the file's name, which records, tracebacks and line by
    line reports of a worker contain. A class that arrives where it is known already is found there, as by cloudpickle,
    and remains unchanged.
    """

    def reducer_override(self, obj: object) -> object:
        """Return the reduced form of `obj`."""
        if isinstance(obj, CodeType):
            make, arguments = self.dispatch_table[CodeType](obj)[:2]
            return _code_of_file, (make, arguments, obj.co_filename)
        if (definition := reduce_shadowed(obj)) is not None:
            return definition
        found = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(found, tuple) and len(found) == 6:
            make, arguments, state, *_, fill = found
            return _class_made, (make, *arguments), (state, fill), None, None, _class_filled
        return found


def dumps(value: object, protocol: int | None = None, buffer_callback: Callable[[object], Any] | None = None) -> bytes:
    """Return the pickle of `value`; raises as `cloudpickle.dumps` does."""
    with io.BytesIO() as file:
        Pickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def dumps_data(value: object) -> bytes:
    """Return the pickle of `value`, as `dumps` does; several times as quick for data without code."""
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return dumps(value)
    # The program's own classes, and those of modules that it has asked for, travel by value.
    return dumps(value) if b"__main__" in data or cloudpickle.list_registry_pickle_by_value() else data


def _class_made(make: Callable[..., type], *arguments: Any) -> type:
    """Return the class that is known here by the number that cloudpickle gave it, or a new one, to be filled."""
    known = arguments[-2] in _CLASSES  # both makers of cloudpickle have it last but one
    made = make(*arguments)
    if not known:
        _new.add(made)
    return made


def _class_filled(cls: type, state: tuple[Any, Callable[[type, Any], Any]]) -> None:
    if cls in _new:
        _new.discard(cls)
        contents, fill = state
        fill(cls, contents)


def _code_of_file(make: Callable[..., CodeType], arguments: tuple[object, ...], filename: str) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


@lru_cache(maxsize=4096)
def global_names(code: CodeType) -> tuple[str, ...]:
    """Return the names of the globals that code, and the functions inside it, use, in order."""
    names = {instruction.argval: None for instruction in dis.get_instructions(code) if instruction.opname in _GLOBAL}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= dict.fromkeys(global_names(constant))
    return tuple(names)


@lru_cache(maxsize=4096)
def names_of_values(code: CodeType) -> frozenset[str]:
    """Return the names of globals that code uses other than by calling them at once.

    All that functions inside it use are among them: it may hand these functions on.
    """
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        # The lowest bit of its argument: what is loaded is called.
        if instruction.opname in _GLOBAL and not (instruction.opname == "LOAD_GLOBAL" and (instruction.arg or 0) & 1)
    }
    inner = [global_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(names.union(*inner))


def imported_submodules(code: CodeType, values: Iterable[Any]) -> list[str]:
    """Return the names of submodules that code reaches through a package among `values`, such as ``os.path``."""
    found = []
    for value in values:
        if isinstance(value, ModuleType) and hasattr(value, "__path__"):
            prefix = value.__name__ + "."
            inside = [name for name in list(sys.modules) if name.startswith(prefix)]
            found += [name for name in inside if set(name[len(prefix) :].split(".")) <= _attributes(code)]
    return found


@lru_cache(maxsize=4096)
def _attributes(code: CodeType) -> frozenset[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _attributes(constant)
    return frozenset(names)
