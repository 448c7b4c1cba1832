"""Modules of the program that have the name of one of the standard library or of an installed package.

``python app.py`` looks for ``import queue`` in the program's folder first, also where Python's own modules ask for it. Under
runmem much more asks: runmem, Dask, and what they import, at any time and in any thread. So here the answer depends on who
asks. An import statement of a library gets the library's module, any other the program's, as soon as there is one:

- `builtins.__import__`, which every import statement calls, looks at the file of who asks;
- a finder, which `sys.meta_path` has first, looks in the program's folder or everywhere else;
- `sys.modules` has the program's module from the program's first import of it on, so that pickles find what is in it;
  the library's lies in `_Shadowed.real` from then on.

A program that never imports the module that lies in its folder has nothing to do with it, and neither has anybody else.

Assumptions and limitations: C code has no file; it finds what `sys.modules` has. So does code that looks there itself:
``psutil`` does, and a program cannot have that name. While a library imports a module of such a name that was not loaded
before, all threads find the library's for that moment.
"""

from __future__ import annotations

import builtins
import importlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from inspect import getmodulename
from types import ModuleType
from typing import Any, NamedTuple

from runmem.errors import SettingError

__all__ = ["Shadowing", "TakenNameError", "library_module", "shadow", "shadow_no_more", "shadowing"]

_NEVER = frozenset(("cloudpickle", "dask", "distributed", "psutil", "runmem"))
"""They look for themselves in `sys.modules`, or pickles name what is in them."""
_WAIT_S = 10.0  # another thread's import of a library; longer, and two imports may wait for each other
_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


class TakenNameError(SettingError):
    """The program imports a module of its own under a name that runmem needs for another."""


class Shadowing(NamedTuple):
    """What another process must know to find the same modules.

    Attributes
    ----------
    folder : str
        Of the program.
    imported : tuple of str
        Names, of modules in that folder, which are not the libraries' any more.
    """

    folder: str
    imported: tuple[str, ...] = ()


class _Shadowed:
    """The names that a folder and the libraries both have, and whose module is whose."""

    def __init__(self, folder: str, names: frozenset[str]) -> None:
        self.folder = folder
        self.names = names
        self.imported: dict[str, None] = {}
        self.real: dict[str, ModuleType] = {}
        self.plain_import = builtins.__import__
        self.plain_import_module = importlib.import_module
        self._lock = threading.RLock()
        self._libraries_turn: int | None = None  # the thread for which `sys.modules` has the libraries' now

    def begin(self) -> None:
        builtins.__import__ = self._import
        importlib.import_module = self._import_module
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]

    def end(self) -> None:
        builtins.__import__ = self.plain_import
        importlib.import_module = self.plain_import_module
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        self._set_aside(*self.imported)
        sys.modules.update(self.real)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Find a module for Python's import."""
        if path is not None or name not in self.names:
            return None
        if name in self.imported and self._libraries_turn != threading.get_ident():
            return PathFinder.find_spec(name, [self.folder])
        found = PathFinder.find_spec(name, [path for path in sys.path if os.path.abspath(path) != self.folder])
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found

    def take(self, name: str) -> None:
        """Let `name` be the program's from now on, but for libraries."""
        if name not in self.names or name in self.imported:
            return
        if name in _NEVER:
            file = PathFinder.find_spec(name, [self.folder])
            raise TakenNameError(
                f"the program imports {file.origin if file else name}, and runmem needs the library {name} under this "
                "name: rename the program's module."
            )
        with self._locked():
            self.imported[name] = None
            self.real.update(self._set_aside(name))

    def _import(
        self, name: str, names: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """Do what `builtins.__import__` does."""
        asker = sys._getframe(1).f_globals if names is None else names
        whole = name if not level else _resolved(name, asker, level)
        top = whole.partition(".")[0]
        if top not in self.names or self._libraries_turn == threading.get_ident():
            return self.plain_import(name, names, locals, fromlist, level)
        if not self._is_library(asker):
            self.take(top)
            if self._libraries_turn is not None:
                with self._locked():  # another thread's import: until `sys.modules` has the program's again
                    pass
        elif top in self.imported and names is not None:
            return self._libraries_own(name, whole, names, locals, fromlist, level)
        return self.plain_import(name, names, locals, fromlist, level)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Do what `importlib.import_module` does."""
        if name.partition(".")[0] not in self.names:
            return self.plain_import_module(name, package)
        return self._import(name, sys._getframe(1).f_globals, None, ("__name__",))

    def _libraries_own(
        self, name: str, whole: str, names: Any, locals: Any, fromlist: Any, level: int
    ) -> ModuleType:
        module = self.real.get(whole)
        if module is not None and "*" not in (fromlist or ()) and all(hasattr(module, each) for each in fromlist or ()):
            return module if fromlist else self.real[whole.partition(".")[0]]
        with self._locked():
            own = self._set_aside(*self.imported)
            sys.modules.update(self.real)
            self._libraries_turn = threading.get_ident()
            try:
                return self.plain_import(name, names, locals, fromlist, level)
            finally:
                self._libraries_turn = None
                self.real.update(self._set_aside(*self.imported))
                sys.modules.update(own)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        locked = self._lock.acquire(timeout=_WAIT_S)
        try:
            yield
        finally:
            if locked:
                self._lock.release()

    def _set_aside(self, *names: str) -> dict[str, ModuleType]:
        """Take modules of these names, and what is below them, out of `sys.modules`."""
        return {each: sys.modules.pop(each) for each in list(sys.modules) if each.partition(".")[0] in names}

    def _is_library(self, names: Any) -> bool:
        """Tell whether the code of a module with these globals is runmem's, Python's or an installed package's."""
        file = names.get("__file__")
        if isinstance(file, str):
            return _is_libraries(file, self.folder)
        return getattr(names.get("__spec__"), "origin", None) in ("built-in", "frozen")


_current: _Shadowed | None = None


def shadow(told: Shadowing) -> None:
    """Let code of the program, in this process, find the modules of its folder, and all others those of the libraries.

    Where none of them has the name of a library's nothing is changed.
    """
    global _current
    if _current is not None and _current.folder != told.folder:
        shadow_no_more()
    if _current is None:
        if not (names := _shadowed_in(told.folder)):
            return
        _current = _Shadowed(told.folder, names)
        _current.begin()
    for name in told.imported:
        _current.take(name)


def shadow_no_more() -> None:
    """Let everybody find the modules of the libraries again."""
    global _current
    if _current is not None:
        _current.end()
        _current = None


def shadowing(folder: str | None = None) -> Shadowing | None:
    """Return what another process must know to run tasks of the program in this one; None: there is nothing.

    Parameters
    ----------
    folder : str, optional
        Of a program that may not have begun yet.
    """
    if _current is not None:
        return Shadowing(_current.folder, tuple(_current.imported))
    return Shadowing(folder) if folder is not None and _shadowed_in(folder) else None


def library_module(name: str) -> Any:
    """Return a module that is imported already, though the program may have another one of that name; else None."""
    real = None if _current is None else _current.real.get(name)
    if real is None and (_current is None or name not in _current.imported):
        real = sys.modules.get(name)
    return real


def _shadowed_in(folder: str) -> frozenset[str]:
    """Return the names of modules in a folder that Python has too, or an installed package."""
    try:
        entries = os.listdir(folder)
    except OSError:  # not on this host
        return frozenset()
    found = {getmodulename(entry) or entry for entry in entries if getmodulename(entry) or _is_package(folder, entry)}
    found = {name for name in found if not _is_loaded_from(folder, name)}  # it is everybody's, as by a PYTHONPATH
    elsewhere = [path for path in _libraries() if not os.path.samefile(path, folder)]
    return frozenset(
        name for name in found.difference(sys.builtin_module_names)
        if name in sys.stdlib_module_names or (name.isidentifier() and PathFinder.find_spec(name, elsewhere) is not None)
    )  # fmt: skip


def _is_loaded_from(folder: str, name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and os.path.abspath(file).startswith(os.path.join(folder, ""))


def _is_package(folder: str, entry: str) -> bool:
    return entry.isidentifier() and os.path.isfile(os.path.join(folder, entry, "__init__.py"))


@lru_cache
def _libraries() -> tuple[str, ...]:
    """Return the folders in which packages are installed, and those of Python's own modules."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*(sysconfig.get_path(kind) for kind in kinds), *site.getsitepackages(), site.getusersitepackages()]
    for package in ("click", "distributed"):  # wherever it was found: not every package is installed in a usual place
        spec = PathFinder.find_spec(package)
        folders += [os.path.dirname(path) for path in (spec and spec.submodule_search_locations) or ()]
    return tuple(dict.fromkeys(folder for folder in folders if os.path.isdir(folder)))


@lru_cache(maxsize=4096)
def _is_libraries(file: str, folder: str) -> bool:
    """Tell whether a file is runmem's own, or of a library; an environment may lie in the program's folder, or around it."""
    inside = file.startswith(os.path.join(folder, ""))
    around = [path for path in _libraries() if not inside or os.path.join(path, "").startswith(os.path.join(folder, ""))]
    return file.startswith((_PACKAGE, *(os.path.join(path, "") for path in around)))


def _resolved(name: str, names: Any, level: int) -> str:
    package = names.get("__package__") or str(names.get("__name__", ""))
    try:
        return resolve_name("." * level + name, package)
    except (ImportError, ValueError):
        return name
