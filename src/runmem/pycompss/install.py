"""Makes ``import pycompss`` find runmem's names, where the real PyCOMPSs is not installed."""

from __future__ import annotations

import difflib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from runmem.clusters.child_imports import add_import_folder
from runmem.errors import RunmemError

__all__ = ["ALIAS_FOLDER", "NotOfferedError", "install", "installed"]

_NAME = "pycompss"
_OURS = "runmem.pycompss"
_NOT_THEIRS = (f"{_NAME}.__main__", f"{_NAME}.install", f"{_NAME}.options")
ALIAS_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alias")
"""A folder with a `pycompss` that is ours, for the import path of other processes."""


class NotOfferedError(RunmemError, ModuleNotFoundError):
    """A module of PyCOMPSs, or a name in one, that runmem has not got. Raised at its import."""


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``pycompss.x`` as the module ``runmem.pycompss.x``: the same object under a second name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NAME and not name.startswith(_NAME + "."):
            return None
        if _real_is_importable() if name == _NAME else not _is_ours(sys.modules.get(_NAME)):
            return None
        ours = importlib.util.find_spec(_OURS + name[len(_NAME) :])
        if ours is None:
            raise _not_offered(name, _modules())
        return importlib.machinery.ModuleSpec(name, self, is_package=ours.submodule_search_locations is not None)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        ours = importlib.import_module(_OURS + spec.name[len(_NAME) :])
        self._spec_of_ours = ours.__spec__
        return ours

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given the module the alias's name; it stays what it was.
        module.__spec__ = self._spec_of_ours
        module.__loader__ = self._spec_of_ours.loader if self._spec_of_ours is not None else None
        if module.__spec__ is not None:
            module.__package__ = module.__spec__.parent
        if not hasattr(module, "__getattr__"):
            module.__getattr__ = _NamesOf(module)  # type: ignore[method-assign]


class _NamesOf:
    """The ``__getattr__`` of a module: says of a name that is not there what an import of it would say of a module."""

    def __init__(self, module: ModuleType) -> None:
        self._name = _NAME + module.__name__[len(_OURS) :]
        self._is_package = hasattr(module, "__path__")
        self._names = [name for name in getattr(module, "__all__", ()) if isinstance(name, str)]

    def __call__(self, name: str) -> object:
        whole = f"{self._name}.{name}"
        is_module = self._is_package and importlib.util.find_spec(_OURS + whole[len(_NAME) :]) is not None
        if name.startswith("_") or is_module:
            raise AttributeError(f"module {self._name!r} has no attribute {name!r}")
        raise _not_offered(whole, [f"{self._name}.{each}" for each in self._names] or _modules())


def _not_offered(name: str, known: list[str]) -> NotOfferedError:
    """Return the error for a module, or a name in one; `known`: what may be meant."""
    near = difflib.get_close_matches(name, known, 1, cutoff=0.85)
    there = f"did you mean {near[0]}?" if near else f"runmem offers {', '.join(known)}."
    text = f"{name} is not offered by runmem, and the real PyCOMPSs is not installed: {there}"
    return NotOfferedError(text, name=name)


def _modules() -> list[str]:
    """Return the modules under the names that PyCOMPSs gives them, as found in the package."""
    package = importlib.import_module(_OURS)
    found = (module for module in pkgutil.walk_packages(package.__path__, _NAME + ".") if not module.ispkg)
    return sorted(module.name for module in found if module.name not in _NOT_THEIRS)


def _real_is_importable() -> bool:
    """Return True if the real PyCOMPSs can be imported now; an empty folder of that name does not count."""
    spec = importlib.machinery.PathFinder.find_spec(_NAME, [folder for folder in sys.path if folder != ALIAS_FOLDER])
    return spec is not None and spec.origin is not None


def _is_ours(module: ModuleType | None) -> bool:
    return module is not None and module is sys.modules.get(_OURS)


def installed() -> bool:
    """Return True if ``pycompss`` is runmem's."""
    if _NAME in sys.modules:
        return _is_ours(sys.modules[_NAME])
    return any(isinstance(finder, _Alias) for finder in sys.meta_path) and not _real_is_importable()


def install() -> None:
    """Let ``pycompss`` mean runmem in this process, unless the real one is installed. Doing it twice is harmless.

    Whether the real one is installed is looked up at the first import, when the program's own folder is on the path.
    It means the same in processes that this one spawns and that import the program.
    """
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())
    add_import_folder(ALIAS_FOLDER)
