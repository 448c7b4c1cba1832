"""Imports for programs whose folder has modules with the name of a library's, such as ``queue.py``.

With ``python app.py`` such a module shadows the library for everyone, including Python's own modules. Runmem and Dask
import much more, at any time and in any thread. So here imports depend on the importing code: libraries get the
library, all other code gets the program's module.

- `builtins.__import__`, called by every import statement, checks the file of the importing code.
- A finder, first in `sys.meta_path`, searches the program's folder only, or everything else.
- `sys.modules` has the program's module from its first import by the program, so that pickles find it. The library's
  module is then kept in the hook. Dask is imported before that, because parts of it are written in C.

A module that the program never imports shadows nothing.

Assumptions and limitations: C code, pickles (which call ``__import__`` without globals or with a list as ``fromlist``)
and code that reads `sys.modules` get the program's module. `psutil` reads its own entry, so no module of a program can
have that name. While a library imports such a module for the first time after the program did, `sys.modules` has the
library's module for all threads.
"""

from __future__ import annotations

import builtins
import importlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from inspect import getmodulename
from types import FunctionType, ModuleType, TracebackType
from typing import Any, NamedTuple

from runmem.errors import SettingError

__all__ = [
    "ReservedNameError",
    "Shadowing",
    "current_shadowing",
    "drop_import_frames",
    "library_module",
    "reduce_shadowed",
    "shadow",
    "stop_shadowing",
    "traceback_of",
]

_RESERVED = frozenset(("cloudpickle", "dask", "distributed", "psutil", "runmem", "ssl", "typing"))
"""Libraries that read `sys.modules` for themselves or others, or whose objects are in Dask's pickles."""
_IMPORT_LOCK_S = 2.0  # longest wait for another thread's import, which may itself wait for this thread


class ReservedNameError(SettingError):
    """The program imports its own module under a name that runmem needs for a library."""


class Shadowing(NamedTuple):
    """The state that another process needs to find the same modules.

    Attributes
    ----------
    folder : str
        Folder of the program.
    imported : tuple of str
        Modules of the folder with the name of a library's that the program has imported.
    """

    folder: str
    imported: tuple[str, ...] = ()


class _ImportHook:
    """Decides imports of names that both a folder and the libraries have."""

    def __init__(self, folder: str, import_ahead: Callable[[], object]) -> None:
        self.folder = folder
        self.names: set[str] = set()
        self.imported: dict[str, bool] = {}  # names imported by the program; whether it is a package
        self.library_modules: dict[str, ModuleType] = {}  # under these names
        self._program_modules: dict[str, ModuleType] = {}  # while this hook is not installed
        self._import_ahead = import_ahead
        self._python_import = builtins.__import__
        self._python_import_module = importlib.import_module
        self._locks: dict[str, threading.RLock] = {}
        self._library_imports: dict[str, int] = {}  # names for which `sys.modules` has the library now: the thread

    def install(self, names: frozenset[str]) -> None:
        self.names |= names
        self._locks |= {name: threading.RLock() for name in names}
        self.library_modules = self._remove_imported()
        sys.modules.update(self._program_modules)
        builtins.__import__ = self._import
        importlib.import_module = self._import_module
        sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        builtins.__import__ = self._python_import
        importlib.import_module = self._python_import_module
        sys.meta_path.remove(self)
        self._program_modules = self._remove_imported()
        sys.modules.update(self.library_modules)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Implement the finder's method for Python's import."""
        if path is not None or name not in self.names:
            return None
        if name in self.imported and self._library_imports.get(name) != threading.get_ident():
            return PathFinder.find_spec(name, [self.folder])
        folder = os.path.abspath(self.folder)
        found = PathFinder.find_spec(name, [path for path in sys.path if os.path.abspath(path) != folder])
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found

    def shadow_name(self, name: str) -> None:
        """Give `name` to the program's module, except for libraries."""
        if name not in self.names or name in self.imported:
            return
        spec = PathFinder.find_spec(name, [self.folder])
        if name in _RESERVED:
            raise ReservedNameError(
                f"the program imports {spec.origin if spec else name}, and runmem needs the library {name} under this "
                "name: rename the program's module."
            )
        with self._locked(name):
            if name in self.imported:  # by another thread meanwhile
                return
            if not self.imported:
                self._import_ahead()
            self.imported[name] = spec is not None and spec.submodule_search_locations is not None
            self.library_modules.update(self._remove(name))

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Replace `builtins.__import__`."""
        importer = sys._getframe(1).f_globals if globals is None else globals
        full = _resolve(name, importer, level) if level else name
        top = full.partition(".")[0]
        arguments = name, globals, locals, fromlist or (), level
        if top not in self.names or self._library_imports.get(top) == threading.get_ident():
            return self._python_import(*arguments)
        is_library, is_statement = (
            _is_library(importer, self.folder),
            globals is not None and type(fromlist) is not list,
        )
        if is_library and is_statement and (found := self._imported_library(top, full, fromlist or ())) is not None:
            return found
        with self._locked(top):
            if not is_library:
                self.shadow_name(top)
            elif is_statement and top in self.imported:
                program_modules = self._remove(top)
                sys.modules.update({k: v for k, v in self.library_modules.items() if k.partition(".")[0] == top})
                self._library_imports[top] = threading.get_ident()
                try:
                    return self._python_import(*arguments)
                finally:
                    del self._library_imports[top]
                    self.library_modules.update(self._remove(top))
                    sys.modules.update(program_modules)
            return self._python_import(*arguments)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """Replace `importlib.import_module`."""
        full = resolve_name(name, package) if name.startswith(".") and package else name
        if full.partition(".")[0] not in self.names:
            return self._python_import_module(name, package)
        return self._import(full, sys._getframe(1).f_globals, None, ("__name__",))

    def _imported_library(self, top: str, full: str, fromlist: Collection[str]) -> ModuleType | None:
        """Return the value of a library's import statement if nothing is left to import, else None."""
        if top not in self.imported or "*" in fromlist:
            return None
        module = self.library_modules.get(full) if self.imported[top] or full == top else sys.modules.get(full)
        unfinished = getattr(getattr(module, "__spec__", None), "_initializing", False)  # the check of Python's import
        if module is None or unfinished or not all(hasattr(module, each) for each in fromlist):
            return None
        return module if fromlist else self.library_modules.get(top)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Keep other threads from importing `name` or its submodules."""
        locked = self._locks[name].acquire(timeout=_IMPORT_LOCK_S)
        try:
            yield
        finally:
            if locked:
                self._locks[name].release()

    def _remove(self, name: str) -> dict[str, ModuleType]:
        """Remove a module, and the submodules of a package of the program, from `sys.modules`."""
        submodules = [each for each in list(sys.modules) if each.startswith(f"{name}.")] if self.imported[name] else []
        return {each: sys.modules.pop(each) for each in (name, *submodules) if each in sys.modules}

    def _remove_imported(self) -> dict[str, ModuleType]:
        return {each: module for name in self.imported for each, module in self._remove(name).items()}


_current: _ImportHook | None = None
_known: dict[str, _ImportHook] = {}
"""Hooks by folder: a worker that serves several runs of a program keeps one copy of each module."""


def shadow(shadowing: Shadowing | None, import_ahead: Callable[[], object] = lambda: None) -> None:
    """Give imports of the program, in this process, the modules of its folder, and those of libraries the libraries.

    Parameters
    ----------
    shadowing : Shadowing or None
        None gives all imports the libraries.
    import_ahead : callable, optional
        Imports libraries written in C; called before the first import of a module that shadows one.

    Raises
    ------
    ReservedNameError
        If the program has imported a module with a name that runmem needs.
    """
    global _current
    if _current is not None and (shadowing is None or _current.folder != shadowing.folder):  # of another run
        stop_shadowing()
    if shadowing is None:
        return
    if _current is None:
        names = _shadowed_names(shadowing.folder)
        if not names and shadowing.folder not in _known:
            return
        _current = _known.setdefault(shadowing.folder, _ImportHook(shadowing.folder, import_ahead))
        _current.install(names)
    for name in shadowing.imported:
        _current.shadow_name(name)


def stop_shadowing(*, forget: bool = False) -> None:
    """Give all imports the libraries again; `forget` all that was found too, as in a new process."""
    global _current
    if _current is not None:
        _current.uninstall()
        _current = None
    if forget:
        _known.clear()
        _library_folders.cache_clear()
        _is_library_file.cache_clear()


def current_shadowing(folder: str | None = None) -> Shadowing | None:
    """Return the state for another process that runs tasks of the program; None if no module shadows a library.

    Parameters
    ----------
    folder : str, optional
        Folder of a program that may not have started yet.
    """
    if _current is not None:
        return Shadowing(_current.folder, tuple(_current.imported))
    return Shadowing(folder) if folder is not None and _shadowed_names(folder) else None


def library_module(name: str) -> Any:
    """Return an imported module of a library, not of the program; None if it is not imported."""
    if _current is not None and name in _current.imported:
        return _current.library_modules.get(name)
    return sys.modules.get(name)


def reduce_shadowed(datum: object) -> tuple[object, ...] | None:
    """Return the pickle reduction of a program's module that shadows a library, or of its classes and functions.

    None for all other objects.
    """
    if _current is None or not _current.imported or not isinstance(datum, (type, FunctionType, ModuleType)):
        return None
    is_module = isinstance(datum, ModuleType)
    module, name = (datum.__name__, "") if is_module else (datum.__module__, datum.__qualname__)
    if str(module).partition(".")[0] not in _current.imported or _attribute(module, name) is not datum:
        return None
    return _load_shadowed, (module, name)


def _load_shadowed(module: str, name: str) -> object:
    if _current is not None:
        _current.shadow_name(module.partition(".")[0])
    __import__(module)  # without globals, so that it does not count as an import of this module
    return _attribute(module, name)


def _attribute(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return found


def drop_import_frames(trace: TracebackType | None) -> TracebackType | None:
    """Remove the frames of this module from a traceback."""
    frames = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            frames.append(trace)
        trace = trace.tb_next
    return traceback_of(frames)


def traceback_of(frames: Sequence[TracebackType]) -> TracebackType | None:
    """Return a traceback of these frames, the outermost first."""
    result: TracebackType | None = None
    for frame in reversed(frames):
        result = TracebackType(result, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return result


def _shadowed_names(folder: str) -> frozenset[str]:
    """Return the names of modules in a folder that the standard library or an installed package has too."""
    try:
        entries = os.listdir(folder)
    except OSError:  # it does not exist on this host
        return frozenset()
    found = {getmodulename(entry) for entry in entries}
    found |= {entry for entry in entries if os.path.isfile(os.path.join(folder, entry, "__init__.py"))}
    libraries = [path for path in _library_folders() if os.path.realpath(path) != os.path.realpath(folder)]
    return frozenset(
        name
        for name in found.difference(sys.builtin_module_names)
        if name is not None and name.isidentifier() and not _is_loaded_from(folder, name)
        # An editable installation of runmem is in none of the folders.
        if name in sys.stdlib_module_names or name in _RESERVED or PathFinder.find_spec(name, libraries) is not None
    )


def _is_loaded_from(folder: str, name: str) -> bool:
    """Return True if libraries have imported the module from this folder, for example through PYTHONPATH."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(file, str) and os.path.abspath(file).startswith(os.path.join(folder, ""))


@lru_cache
def _library_folders() -> tuple[str, ...]:
    """Return the folders of the standard library and of installed packages, with a trailing slash."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*(sysconfig.get_path(kind) for kind in kinds), *site.getsitepackages(), site.getusersitepackages()]
    for package in ("click", "distributed"):  # sites may install packages in any folder
        spec = PathFinder.find_spec(package)
        folders += [os.path.dirname(path) for path in (spec and spec.submodule_search_locations) or ()]
    return tuple(os.path.join(folder, "") for folder in dict.fromkeys(folders) if os.path.isdir(folder))


_RUNMEM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def _is_library(module_globals: Mapping[str, object], folder: str) -> bool:
    """Return True for the globals of a module of runmem, the standard library or an installed package."""
    file = module_globals.get("__file__")
    if isinstance(file, str):
        return _is_library_file(file, os.path.join(folder, ""))
    return getattr(module_globals.get("__spec__"), "origin", None) in ("built-in", "frozen")


@lru_cache(maxsize=4096)
def _is_library_file(file: str, folder: str) -> bool:
    """Return True for a file of a library. A program's folder may be inside a library's, and contain an environment."""
    libraries = _library_folders()
    if file.startswith(folder):
        libraries = tuple(path for path in libraries if path.startswith(folder) and path != folder)
    return file.startswith((_RUNMEM, *libraries))


def _resolve(name: str, module_globals: Mapping[str, object], level: int) -> str:
    package = module_globals.get("__package__") or module_globals.get("__name__", "")
    try:
        return resolve_name("." * level + name, str(package))
    except (ImportError, ValueError):
        return name
