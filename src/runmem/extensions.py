"""Instantiates a run's observers and probes, which users give as ``module:Class``, as classes or as objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

from runmem.errors import SettingError

__all__ = ["check_extensions", "make_extensions"]

Kind = TypeVar("Kind")


def make_extensions(given: Sequence[object], kind: type[Kind], option: str, folder: str | None = None) -> list[Kind]:
    """Return an object of `kind` for each given name, class or object; classes are called without arguments.

    Parameters
    ----------
    given : sequence
        Names as ``module:Class``, classes, or objects.
    option : str
        Source of the values, for messages.
    folder : str, optional
        Folder of the program, added to the import path.

    Raises
    ------
    SettingError
        If a module or class does not exist, cannot be instantiated or is not of the kind.
    """
    return [_make_one(value, kind, option, folder) for value in given]


def check_extensions(given: Sequence[object], kind: type[object], option: str, folder: str | None = None) -> None:
    """Raise a SettingError if a class does not exist or is not of the kind, without making an object."""
    for value in given:
        found = _find(value, option, folder)
        if not (isinstance(found, type) and issubclass(found, kind)) and not isinstance(found, kind):
            raise _wrong_kind(value, kind, option)


def _make_one(value: object, kind: type[Kind], option: str, folder: str | None) -> Kind:
    found = _find(value, option, folder)
    try:
        one = found() if isinstance(found, type) else found
    except Exception as error:
        raise _unusable(value, error, option) from error
    if not isinstance(one, kind):
        raise _wrong_kind(value, kind, option)
    return one


def _find(value: object, option: str, folder: str | None) -> object:
    try:
        return _import(value, folder) if isinstance(value, str) else value
    except Exception as error:
        raise _unusable(value, error, option) from error


def _unusable(value: object, error: Exception, option: str) -> SettingError:
    return SettingError(f"{option}: {value!r} cannot be used: {type(error).__name__}: {error}.")


def _wrong_kind(value: object, kind: type[object], option: str) -> SettingError:
    return SettingError(f"{option}: {value!r} cannot be used: it is not a {kind.__module__}.{kind.__qualname__}.")


def _import(name: str, folder: str | None) -> object:
    module, _, path = name.partition(":")
    with _importable(folder):
        found: object = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


@contextmanager
def _importable(folder: str | None) -> Iterator[None]:
    is_new = folder is not None and folder not in sys.path
    if is_new:
        sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if is_new and folder in sys.path:
            sys.path.remove(str(folder))
