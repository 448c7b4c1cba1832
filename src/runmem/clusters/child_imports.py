"""Controls the imports of child processes that `multiprocessing` starts with its spawn method.

A spawned process imports the main module of its parent, to find functions of the program. Dask spawns the workers of
the embedded cluster too, but they receive functions by value. Their import is switched off, so that the program has the
``__main__`` of plain Python, needs no ``if __name__ == "__main__":`` and does not run a second time.

Undocumented features of the standard library that are used: in the parent, `multiprocessing` calls
``multiprocessing.spawn.get_preparation_data(name)`` for each process that it spawns (also from a fork server), which
returns a dictionary with the keys ``init_main_from_name``, ``init_main_from_path`` (the module to import) and
``sys_path``; the child unpickles it first of all, and ignores other keys. Next it calls
``multiprocessing.util._args_from_interpreter_flags()`` in the same thread, as ``multiprocessing.resource_tracker`` does
for its process; and before, it flushes the program's streams by ``multiprocessing.util._flush_std_streams()``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import spawn, util
from typing import Any, NamedTuple

__all__ = [
    "WORKER_NAME",
    "MainModule",
    "add_import_folder",
    "exclude_from_workers",
    "interrupts_ignored_in_workers",
    "is_embedded_worker",
    "is_importing_main",
    "patch_spawn",
]

WORKER_NAME = "Dask Worker process"  # prefix of the names of Dask's worker processes

_BY_NAME, _BY_PATH = "init_main_from_name", "init_main_from_path"
_import_folders: list[str] = []  # added for child processes
_excluded_folder: str | None = None  # removed for workers
_spawning = threading.local()  # `is_worker`: whether this thread is starting a worker
_is_embedded_cluster_starting = False
_main_module: MainModule | None = None  # in place of the main module of this process
_original: Callable[[str], dict[str, Any]] | None = None


class MainModule(NamedTuple):
    """The program's main module, for import in child processes.

    Attributes
    ----------
    file : str or None
        Its file; None in a notebook.
    name : str or None
        Its name if it was started by name (``-m``), else None.
    """

    file: str | None = None
    name: str | None = None

    @classmethod
    def of_this_process(cls) -> MainModule:
        """Return the main module of this process."""
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        name = getattr(getattr(main, "__spec__", None), "name", None)
        return cls(None if file is None else os.path.abspath(file), name)

    def import_in_children(self) -> None:
        """Make children of this process import this module, as children of the program do."""
        global _main_module
        _main_module = self
        patch_spawn()

    def preparation_data(self) -> dict[str, str]:
        """Return the preparation data of a process that imports this module; empty if the file is missing."""
        if self.name is not None:
            return {_BY_NAME: self.name}
        return {_BY_PATH: self.file} if self.file is not None and os.path.exists(self.file) else {}


def patch_spawn() -> None:
    """Prevent workers of the embedded cluster from importing the program. May be called again."""
    global _original
    if _original is None:
        _original, spawn.get_preparation_data = spawn.get_preparation_data, _preparation_data
        _ignore_flush_errors()


def _ignore_flush_errors() -> None:
    """Start workers even if the program's output cannot be written, which only concerns the program."""
    flush = getattr(util, "_flush_std_streams", None)
    if flush is None:
        return

    def flush_std_streams() -> None:
        try:
            flush()
        except OSError:
            if threading.current_thread() is threading.main_thread():  # children of the program
                raise

    util._flush_std_streams = flush_std_streams  # type: ignore[attr-defined]


def add_import_folder(folder: str) -> None:
    """Append a folder to ``sys.path`` of the children of this process."""
    patch_spawn()
    if folder not in _import_folders:
        _import_folders.append(folder)


def exclude_from_workers(folder: str) -> None:
    """Remove a folder, whose modules shadow libraries, from ``sys.path`` of new workers."""
    global _excluded_folder
    patch_spawn()
    if _excluded_folder is None:
        flags_of_python = util._args_from_interpreter_flags  # type: ignore[attr-defined]

        def flags() -> list[str]:
            is_tracker = sys._getframe(1).f_globals.get("__name__") == "multiprocessing.resource_tracker"
            # Without -P these processes import from the current folder.
            return [*flags_of_python(), *(["-P"] if is_tracker or getattr(_spawning, "is_worker", False) else [])]

        util._args_from_interpreter_flags = flags  # type: ignore[attr-defined]
    _excluded_folder = folder


def _preparation_data(name: str) -> dict[str, Any]:
    assert _original is not None
    data = _original(name)
    is_worker = _spawning.is_worker = name.startswith(WORKER_NAME)
    if is_worker and _excluded_folder is not None:
        data["sys_path"] = [path for path in data.get("sys_path", sys.path) if path != _excluded_folder]
    if is_worker or _main_module is not None:
        data.pop(_BY_NAME, None)
        data.pop(_BY_PATH, None)
    if is_worker:
        return data | {"interrupts": _IgnoredInterrupts()} if _is_embedded_cluster_starting else data
    if _main_module is not None:
        data |= _main_module.preparation_data()
    if _import_folders:
        data["sys_path"] = [*data.get("sys_path", sys.path), *_import_folders]
    return data


@contextmanager
def interrupts_ignored_in_workers() -> Iterator[None]:
    """Make workers that are started meanwhile ignore SIGINT until `local_worker` handles it."""
    global _is_embedded_cluster_starting
    _is_embedded_cluster_starting = True
    try:
        yield
    finally:
        _is_embedded_cluster_starting = False


class _IgnoredInterrupts:
    """Makes the process that unpickles it ignore SIGINT: a worker that still imports Dask would print a traceback."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        of_c = import_module("_signal")  # found by this name also if the program has a module named signal
        return of_c.signal, (int(signal.SIGINT), int(signal.SIG_IGN))


def is_embedded_worker() -> bool:
    """Return True in a worker started by a Dask nanny, and in processes with such a name."""
    return multiprocessing.current_process().name.startswith(WORKER_NAME)


def is_importing_main() -> bool:
    """Return True while a child process imports the program's main module."""
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))
