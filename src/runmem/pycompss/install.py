"""Makes ``import pycompss`` find runmem's names, where the real PyCOMPSs is not installed."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["install", "installed"]

_NAME = "pycompss"
_OURS = "runmem.pycompss"


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``pycompss.x`` as the module ``runmem.pycompss.x``: the same object under a second name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NAME and not name.startswith(_NAME + "."):
            return None
        ours = importlib.util.find_spec(_OURS + name[len(_NAME) :])
        if ours is None:
            raise ModuleNotFoundError(
                f"{name} is not offered by runmem, and the real PyCOMPSs is not installed. runmem offers {_offered()}.",
                name=name,
            )
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


def _offered() -> str:
    """Return the modules under the names that PyCOMPSs gives them, as found in the package."""
    package = importlib.import_module(_OURS)
    found = (module for module in pkgutil.walk_packages(package.__path__, _NAME + ".") if not module.ispkg)
    return ", ".join(sorted(module.name for module in found if module.name != f"{_NAME}.install"))


def installed() -> bool:
    """Return whether ``pycompss`` is runmem's."""
    return any(isinstance(finder, _Alias) for finder in sys.meta_path)


def install() -> None:
    """Let ``pycompss`` mean runmem in this process, unless the real one is installed. Doing it twice is harmless."""
    if installed() or _NAME in sys.modules or importlib.machinery.PathFinder.find_spec(_NAME) is not None:
        return
    sys.meta_path.insert(0, _Alias())
