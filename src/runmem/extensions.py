"""Classes of the user that a run works with, named as ``module:Class`` or given as they are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from runmem.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_extensions", "make_extensions"]

Kind = TypeVar("Kind")


def make_extensions(given: Sequence[Any], kind: type[Kind], option: str, folder: str | None = None) -> list[Kind]:
    """Return objects of `kind`: of a name or a class, one that is made without arguments.

    Parameters
    ----------
    given : sequence
        Names as ``module:Class``, classes, or objects.
    option : str
        Where they come from, for messages.
    folder : str, optional
        Folder of the program, from which modules are imported too.

    Raises
    ------
    SettingError
        For a module or a class that there is not, one that cannot be made, and one that is not of the kind.
    """
    return [_one(value, kind, option, folder) for value in given]


def check_extensions(given: Sequence[Any], kind: type[Any], option: str, folder: str | None = None) -> None:
    """Raise what `made` does for a class that there is not or that is not of the kind, without making an object."""
    for value in given:
        found = _found(value, option, folder)
        if not (isinstance(found, type) and issubclass(found, kind)) and not isinstance(found, kind):
            raise _not_of_the_kind(value, kind, option)


def _one(value: Any, kind: type[Kind], option: str, folder: str | None) -> Kind:
    found = _found(value, option, folder)
    try:
        one = found() if isinstance(found, type) else found
    except Exception as error:
        raise _unusable(value, error, option) from error
    if not isinstance(one, kind):
        raise _not_of_the_kind(value, kind, option)
    return one


def _found(value: Any, option: str, folder: str | None) -> Any:
    try:
        return _imported(value, folder) if isinstance(value, str) else value
    except Exception as error:
        raise _unusable(value, error, option) from error


def _unusable(value: Any, error: Exception, option: str) -> SettingError:
    return SettingError(f"{option}: {value!r} cannot be used: {type(error).__name__}: {error}.")


def _not_of_the_kind(value: Any, kind: type[Any], option: str) -> SettingError:
    return SettingError(f"{option}: {value!r} cannot be used: it is no {kind.__module__}.{kind.__qualname__}.")


def _imported(name: str, folder: str | None) -> Any:
    module, _, path = name.partition(":")
    with _importable(folder):
        found: Any = import_module(module)
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
