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

__all__ = ["made"]

Kind = TypeVar("Kind")


def made(given: Sequence[Any], kind: type[Kind], option: str, folder: str | None = None) -> list[Kind]:
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


def _one(value: Any, kind: type[Kind], option: str, folder: str | None) -> Kind:
    found = value
    try:
        if isinstance(value, str):
            found = _imported(value, folder)
        if isinstance(found, type):
            found = found()
    except Exception as error:
        raise SettingError(f"{option}: {value!r} cannot be used: {type(error).__name__}: {error}.") from error
    if not isinstance(found, kind):
        raise SettingError(f"{option}: {value!r} cannot be used: it is no {kind.__module__}.{kind.__qualname__}.")
    return found


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
