"""Modules of the program that have the name of one of the standard library or of an installed package.

``python app.py`` looks for ``import queue`` in the program's folder first, also where Python's own modules ask for it.
Under runmem much more asks: runmem, Dask, and what they import, at any time and in any thread. So here the answer
depends on who asks. An import statement of a library gets the library's module, any other one the program's:

- `builtins.__import__`, which every import statement calls, looks at the file of who asks;
- a finder, the first in `sys.meta_path`, looks in the program's folder or everywhere else;
- `sys.modules` has the program's module from the program's first import of it on, so that pickles find what is in it;
  from then on the library's lies here. Dask was imported before: some of it is written in C.

A program that never imports the module that lies in its folder has nothing to do with it, and neither has anybody else.

Assumptions and limitations: C code and pickles, which call ``__import__`` without globals or with an empty list as
``fromlist``, find what `sys.modules` has. So does code that looks there itself: ``psutil`` does for itself, and no
module of a program can have that name. While a library imports such a module for the first time after the program did,
`sys.modules` has the library's for all threads.
"""

from __future__ import annotations

import builtins
import importlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from inspect import getmodulename
from types import FunctionType, ModuleType, TracebackType
from typing import Any, NamedTuple

from runmem.errors import SettingError

__all__ = [
    "Shadowing", "TakenNameError", "library_module", "reduced_definition", "shadow", "shadow_no_more", "shadowing",
    "without_imports",
]  # fmt: skip

_NEVER = frozenset(("cloudpickle", "dask", "distributed", "psutil", "runmem", "ssl", "typing"))
"""They, or others for them, look in `sys.modules` under these names; or pickles of Dask tell what is in them."""
_WAIT_S = 2.0  # for another thread's import of the same name; if it takes longer each may wait for the other


class TakenNameError(SettingError):
    """The program imports a module of its own under a name that runmem needs for another."""


class Shadowing(NamedTuple):
    """What another process must know to find the same modules.

    Attributes
    ----------
    folder : str
        Of the program.
    imported : tuple of str
        Names of modules in it that the program has imported.
    """

    folder: str
    imported: tuple[str, ...] = ()


class _Shadowed:
    """The names that modules of a folder and of libraries have, and whose module is whose."""

    def __init__(self, folder: str, import_ahead: Callable[[], object]) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self._import_ahead = import_ahead
        self.imported: dict[str, bool] = {}  # by the program; whether it is a package
        self.real: dict[str, ModuleType] = {}  # the libraries', of names that the program has imported
        self._own: dict[str, ModuleType] = {}  # the program's, while another folder is shadowed, or none
        self._plain_import = builtins.__import__
        self._plain_import_module = importlib.import_module
        self._locks: dict[str, threading.RLock] = {}
        self._turns: dict[str, int] = {}  # names under which `sys.modules` has the libraries' now: for which thread

    def begin(self, names: frozenset[str]) -> None:
        self.names |= names
        self._locks |= {name: threading.RLock() for name in names}
        self.real = {each: module for name in self.imported for each, module in self._take_out(name).items()}
        sys.modules.update(self._own)
        builtins.__import__ = self._import  # type: ignore[assignment]
        importlib.import_module = self._import_module
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        builtins.__import__ = self._plain_import
        importlib.import_module = self._plain_import_module
        sys.meta_path.remove(self)
        self._own = {each: module for name in self.imported for each, module in self._take_out(name).items()}
        sys.modules.update(self.real)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module, for Python's import."""
        if path is not None or name not in self.names:
            return None
        if name in self.imported and self._turns.get(name) != threading.get_ident():
            return PathFinder.find_spec(name, [self.folder])
        own = os.path.abspath(self.folder)
        found = PathFinder.find_spec(name, [path for path in sys.path if os.path.abspath(path) != own])
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found

    def take(self, name: str) -> None:
        """Let `name` be the program's from now on, but for libraries."""
        if name not in self.names or name in self.imported:
            return
        spec = PathFinder.find_spec(name, [self.folder])
        if name in _NEVER:
            raise TakenNameError(
                f"the program imports {spec.origin if spec else name}, and runmem needs the library {name} under this "
                "name: rename the program's module."
            )
        with self._alone(name):
            if name in self.imported:  # by another thread meanwhile
                return
            if not self.imported:
                self._import_ahead()
            self.imported[name] = spec is not None and spec.submodule_search_locations is not None
            self.real.update(self._take_out(name))

    def _import(
        self, name: str, names: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        """Do what `builtins.__import__` does."""
        asker = sys._getframe(1).f_globals if names is None else names
        whole = _resolved(name, asker, level) if level else name
        top = whole.partition(".")[0]
        if top not in self.names or self._turns.get(top) == threading.get_ident():
            return self._plain_import(name, names, locals, fromlist, level)
        is_library, is_statement = _is_library(asker, self.folder), names is not None and type(fromlist) is not list
        if is_library and is_statement and (found := self._known_to_libraries(top, whole, fromlist or ())) is not None:
            return found
        with self._alone(top):
            if not is_library:
                self.take(top)
            elif is_statement and top in self.imported:
                return self._import_for_library(top, name, names, locals, fromlist, level)
            return self._plain_import(name, names, locals, fromlist, level)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Do what `importlib.import_module` does."""
        whole = resolve_name(name, package) if name.startswith(".") and package else name
        if whole.partition(".")[0] not in self.names:
            return self._plain_import_module(name, package)
        return self._import(whole, sys._getframe(1).f_globals, None, ("__name__",))

    def _known_to_libraries(self, top: str, whole: str, fromlist: Collection[str]) -> ModuleType | None:
        """Return what an import statement of a library gets, if all is imported and the program's is another one."""
        if top not in self.imported or "*" in fromlist:
            return None
        module = self.real.get(whole) if self.imported[top] or whole == top else sys.modules.get(whole)
        begun = getattr(getattr(module, "__spec__", None), "_initializing", False)  # as Python itself looks at it
        if module is None or begun or not all(hasattr(module, each) for each in fromlist):
            return None
        return module if fromlist else self.real.get(top)

    def _import_for_library(self, top: str, *asked: Any) -> ModuleType:
        """Import with the libraries' modules in `sys.modules` in place of the program's."""
        own = self._take_out(top)
        sys.modules.update({each: found for each, found in self.real.items() if each.partition(".")[0] == top})
        self._turns[top] = threading.get_ident()
        try:
            return self._plain_import(*asked)
        finally:
            del self._turns[top]
            self.real.update(self._take_out(top))
            sys.modules.update(own)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Let no other thread import what has this name, or is below it."""
        locked = self._locks[name].acquire(timeout=_WAIT_S)
        try:
            yield
        finally:
            if locked:
                self._locks[name].release()

    def _take_out(self, name: str) -> dict[str, ModuleType]:
        """Take a module out of `sys.modules`, and of a package of the program's what is below it."""
        below = [each for each in list(sys.modules) if each.startswith(f"{name}.")] if self.imported[name] else []
        return {each: sys.modules.pop(each) for each in (name, *below) if each in sys.modules}


_current: _Shadowed | None = None
_known: dict[str, _Shadowed] = {}
"""By folder: a worker that serves several runs of a program has one copy of each of its modules, as of all others."""


def shadow(told: Shadowing | None, import_ahead: Callable[[], object] = lambda: None) -> None:
    """Let imports of the program, in this process, find the modules of its folder, and all others those of libraries.

    Everybody finds the libraries' where none of the modules has the name of one, or for None.

    Parameters
    ----------
    told : Shadowing or None
    import_ahead : callable, optional
        Imports what is written in C and is to find the libraries' modules: called before the program's first of them.

    Raises
    ------
    TakenNameError
        If the program has imported a module under a name that runmem cannot do without.
    """
    global _current
    if _current is not None and (told is None or _current.folder != told.folder):  # of another run, on a worker of both
        shadow_no_more()
    if told is None:
        return
    if _current is None:
        names = _shadowed_in(told.folder)
        if not names and told.folder not in _known:
            return
        _current = _known.setdefault(told.folder, _Shadowed(told.folder, import_ahead))
        _current.begin(names)
    for name in told.imported:
        _current.take(name)


def shadow_no_more(*, forget: bool = False) -> None:
    """Let everybody find the modules of the libraries again; `forget` also all that was found, as a new process has."""
    global _current
    if _current is not None:
        _current.end()
        _current = None
    if forget:
        _known.clear()
        _libraries.cache_clear()
        _is_of_library.cache_clear()


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
    """Return a library's module if it is imported already, else None; the program may have one of the same name."""
    if _current is not None and name in _current.imported:
        return _current.real.get(name)
    return sys.modules.get(name)


def reduced_definition(datum: Any) -> tuple[Any, ...] | None:
    """Return how a process that has not imported such a module of the program finds it, or a class or function in it.

    For a pickle; None for all else.
    """
    if _current is None or not _current.imported or not isinstance(datum, (type, FunctionType, ModuleType)):
        return None
    is_module = isinstance(datum, ModuleType)
    module, name = (datum.__name__, "") if is_module else (datum.__module__, datum.__qualname__)
    if str(module).partition(".")[0] not in _current.imported or _found(module, name) is not datum:
        return None
    return _definition, (module, name)


def _definition(module: str, name: str) -> Any:
    if _current is not None:
        _current.take(module.partition(".")[0])
    __import__(module)  # without globals, so that it is not this module that asks
    return _found(module, name)


def _found(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return found


def without_imports(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this module, which Python would not have."""
    frames = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            frames.append(trace)
        trace = trace.tb_next
    result: TracebackType | None = None
    for frame in reversed(frames):
        result = TracebackType(result, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return result


def _shadowed_in(folder: str) -> frozenset[str]:
    """Return the names of modules in a folder that Python has too, or an installed package."""
    try:
        entries = os.listdir(folder)
    except OSError:  # it is not on this host
        return frozenset()
    found = {name for entry in entries if (name := getmodulename(entry) or _package_in(folder, entry))}
    libraries = [path for path in _libraries() if os.path.realpath(path) != os.path.realpath(folder)]
    return frozenset(
        name
        for name in found.difference(sys.builtin_module_names)
        if name.isidentifier() and not _is_loaded_from(folder, name)
        if name in sys.stdlib_module_names or PathFinder.find_spec(name, libraries) is not None
    )


def _package_in(folder: str, entry: str) -> str | None:
    return entry if os.path.isfile(os.path.join(folder, entry, "__init__.py")) else None


def _is_loaded_from(folder: str, name: str) -> bool:
    """Tell whether the module is everybody's already, where PYTHONPATH has the folder, say."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(file, str) and os.path.abspath(file).startswith(os.path.join(folder, ""))


@lru_cache
def _libraries() -> tuple[str, ...]:
    """Return the folders of Python's own modules and of installed packages, each with a slash at its end."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*(sysconfig.get_path(kind) for kind in kinds), *site.getsitepackages(), site.getusersitepackages()]
    for package in ("click", "distributed"):  # wherever they are: a site may have its packages in any folder
        spec = PathFinder.find_spec(package)
        folders += [os.path.dirname(path) for path in (spec and spec.submodule_search_locations) or ()]
    return tuple(os.path.join(folder, "") for folder in dict.fromkeys(folders) if os.path.isdir(folder))


_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def _is_library(names: Any, folder: str) -> bool:
    """Tell whether code with these globals is runmem's, Python's or an installed package's."""
    file = names.get("__file__")
    if isinstance(file, str):
        return _is_of_library(file, os.path.join(folder, ""))
    return getattr(names.get("__spec__"), "origin", None) in ("built-in", "frozen")


@lru_cache(maxsize=4096)
def _is_of_library(file: str, folder: str) -> bool:
    """Tell whether a file is a library's; a program may lie among libraries, and have an environment in its folder."""
    libraries = _libraries()
    if file.startswith(folder):
        libraries = tuple(path for path in libraries if path.startswith(folder) and path != folder)
    return file.startswith((_OURS, *libraries))


def _resolved(name: str, names: Any, level: int) -> str:
    package = names.get("__package__") or str(names.get("__name__", ""))
    try:
        return resolve_name("." * level + name, package)
    except (ImportError, ValueError):
        return name
