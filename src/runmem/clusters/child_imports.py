"""What a process that Python's `multiprocessing` spawns is told to import first.

A spawned process imports the main module of its parent again, so that functions of the program are found there. The
workers of the embedded cluster are spawned too, by Dask, and need nothing of the program: they get its functions by
value. They are told to import nothing, so the program keeps the ``__main__`` that plain Python gives it, needs no
``if __name__ == "__main__":`` and does not run a second time.

Of the standard library beyond its documentation this uses that `multiprocessing` calls
``multiprocessing.spawn.get_preparation_data(name)`` in the parent for each process that it spawns (also from a fork
server), by that name in that module, and that what it returns is a dictionary with the keys ``init_main_from_name``,
``init_main_from_path`` (what to import) and ``sys_path``; that it asks
``multiprocessing.util._args_from_interpreter_flags()`` for options of the interpreter next, in the same thread, as
``multiprocessing.resource_tracker`` does for its process; and that it flushes the streams of the program before, by
``multiprocessing.util._flush_std_streams()``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing import spawn, util
from typing import Any, NamedTuple

__all__ = [
    "WORKER_NAME", "MainModule", "patch_spawn", "is_embedded_worker", "is_importing_main", "exclude_from_workers",
    "add_import_folder",
]  # fmt: skip

WORKER_NAME = "Dask Worker process"  # Dask names the processes of its workers so, and adds more words

_BY_NAME, _BY_PATH = "init_main_from_name", "init_main_from_path"
_folders: list[str] = []
_kept_from_workers: str | None = None
_spawns = threading.local()
_stand_in: MainModule | None = None
_original: Any = None


class MainModule(NamedTuple):
    """The program's main module, as a process that is spawned later is to find it.

    Attributes
    ----------
    file : str or None
        What it was read from; None in a notebook.
    name : str or None
        Its name if it was started by that (``-m``), else None.
    """

    file: str | None = None
    name: str | None = None

    @classmethod
    def of_this_process(cls) -> MainModule:
        """Return that of the program in this process."""
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        name = getattr(getattr(main, "__spec__", None), "name", None)
        return cls(None if file is None else os.path.abspath(file), name)

    def import_in_children(self) -> None:
        """Let processes that this one spawns import that module, as they would if this were the program's process."""
        global _stand_in
        _stand_in = self
        patch_spawn()

    def preparation_data(self) -> dict[str, str]:
        """Return what a spawned process is told so that it imports this module, if it can."""
        if self.name is not None:
            return {_BY_NAME: self.name}
        there = self.file is not None and os.path.exists(self.file)  # on another host it may be missing
        return {_BY_PATH: str(self.file)} if there else {}


def patch_spawn() -> None:
    """Let the workers of an embedded cluster import nothing of the program; calling it again does nothing."""
    global _original
    if _original is None:
        _original, spawn.get_preparation_data = spawn.get_preparation_data, _preparation_data
        _let_full_streams_be()


def _let_full_streams_be() -> None:
    """Let a worker start also while what the program has printed cannot be written: that is the program's business."""
    flush = getattr(util, "_flush_std_streams", None)
    if flush is None:
        return

    def flush_std_streams() -> None:
        try:
            flush()
        except OSError:
            if threading.current_thread() is threading.main_thread():  # the program's own processes
                raise

    util._flush_std_streams = flush_std_streams  # type: ignore[attr-defined]


def add_import_folder(folder: str) -> None:
    """Let the processes that this one spawns also import from a folder, after all others."""
    patch_spawn()
    if folder not in _folders:
        _folders.append(folder)


def exclude_from_workers(folder: str) -> None:
    """Let workers begin without the modules of a folder, which have names of those that they need."""
    global _kept_from_workers
    patch_spawn()
    if _kept_from_workers is None:
        flags_of_python = util._args_from_interpreter_flags  # type: ignore[attr-defined]

        def flags() -> list[str]:
            is_tracker = sys._getframe(1).f_globals.get("__name__") == "multiprocessing.resource_tracker"
            # They begin in the folder that this process is in, and would import from there.
            return [*flags_of_python(), *(["-P"] if is_tracker or getattr(_spawns, "worker", False) else [])]

        util._args_from_interpreter_flags = flags  # type: ignore[attr-defined]
    _kept_from_workers = folder


def _preparation_data(name: str) -> dict[str, Any]:
    data: dict[str, Any] = _original(name)
    is_worker = _spawns.worker = name.startswith(WORKER_NAME)
    if is_worker and _kept_from_workers is not None:
        data["sys_path"] = [path for path in data.get("sys_path", sys.path) if path != _kept_from_workers]
    if is_worker or _stand_in is not None:
        data.pop(_BY_NAME, None)
        data.pop(_BY_PATH, None)
    if is_worker:
        return data
    if _stand_in is not None:
        data |= _stand_in.preparation_data()
    if _folders:
        data["sys_path"] = [*data.get("sys_path", sys.path), *_folders]
    return data


def is_embedded_worker() -> bool:
    """Tell whether this process is a worker that a Dask nanny spawned, or goes by the name of one."""
    return multiprocessing.current_process().name.startswith(WORKER_NAME)


def is_importing_main() -> bool:
    """Tell whether this process was spawned by a program and imports the program's main module at this moment."""
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))
