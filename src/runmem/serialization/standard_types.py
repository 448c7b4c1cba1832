"""Pickles types of the standard library that `pickle` refuses, such as cached functions."""

from __future__ import annotations

import contextvars
import functools
import weakref
from collections.abc import Callable
from typing import Any

from runmem.serialization.definitions import CachedFunction

__all__ = ["default_of", "make_cached", "make_context_variable", "reduced", "remedy"]


def reduced(obj: object) -> tuple[object, ...] | None:
    """Return the reduced form of `obj` if `pickle` has none; else None."""
    make = _REDUCERS.get(type(obj))
    return make(obj) if make is not None else None


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Return a function with an empty `functools.lru_cache`."""
    return functools.lru_cache(**parameters)(function)


def make_context_variable(name: str, *default: Any) -> contextvars.ContextVar[Any]:
    """Return a context variable."""
    return contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)


def default_of(variable: contextvars.ContextVar[Any]) -> tuple[object, ...]:
    """Return the default of a context variable, if it has one: what it is in an empty context."""
    try:
        return (contextvars.Context().run(variable.get),)
    except LookupError:
        return ()


def _make_cached_property(function: Callable[..., Any], name: str | None) -> object:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _no_referent() -> object:
    """Return a weak reference to an object that is gone."""
    return weakref.ref(set())


def _weak_reference(reference: Any) -> tuple[object, ...]:
    referent = reference()
    return (_no_referent, ()) if referent is None else (weakref.ref, (referent,))


_REDUCERS: dict[type, Callable[[Any], tuple[object, ...]]] = {
    CachedFunction: lambda cached: (make_cached, (cached.__wrapped__, cached.cache_parameters())),
    contextvars.ContextVar: lambda variable: (make_context_variable, (variable.name, *default_of(variable))),
    functools.cached_property: lambda found: (
        _make_cached_property,
        (found.func, found.attrname),
    ),  # has a lock in 3.11
    weakref.ReferenceType: _weak_reference,
    weakref.WeakKeyDictionary: lambda found: (weakref.WeakKeyDictionary, (dict(found),)),
    weakref.WeakValueDictionary: lambda found: (weakref.WeakValueDictionary, (dict(found),)),
}

_FILE = "Pass the path, and open the file inside the task"
_REMEDIES = {
    "generator": "Turn the generator into a list first: list(...)",
    "coroutine": "Wait for the coroutine first, and pass what it gives",
    "_io.": _FILE,
    "files that": _FILE,
    "socket": "Pass the address, and connect inside the task",
    "_thread.": "A lock guards nothing between processes: make it inside the task, or leave it out of the value",
    "threading.": "A lock guards nothing between processes: make it inside the task, or leave it out of the value",
    "sqlite3": "Pass the path of the database, and connect inside the task",
    "module": "Import the module inside the task",
}


def remedy(error: BaseException) -> str:
    """Return advice about an object that cannot be pickled, given the error of `pickle`."""
    try:
        text = str(error)
    except BaseException:  # the class of the object may have a part in the message
        text = ""
    found = next((advice for word, advice in _REMEDIES.items() if word in text), None)
    return found or "Make that value inside the task from what can be sent, such as a path instead of an open file"
