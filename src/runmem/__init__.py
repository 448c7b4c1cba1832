"""runmem: run sequential Python as a task graph on Dask and measure the memory of every task, line and node."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers treat it as `typing.TYPE_CHECKING`; importing `typing` is slow
if TYPE_CHECKING:
    from runmem.cli.measure import measure
    from runmem.cli.session import session
    from runmem.collection.observer import Observer
    from runmem.errors import RunmemError, TaskKilledError, TaskTimeoutError
    from runmem.graph.directions import (
        COLLECTION_IN,
        COMMUTATIVE,
        CONCURRENT,
        FILE_IN,
        FILE_INOUT,
        FILE_OUT,
        IN,
        IN_DELETE,
        INOUT,
        OUT,
    )
    from runmem.graph.synchronise import barrier, delete_object, open_file, wait_on, wait_on_file
    from runmem.graph.task import task
    from runmem.memory.profile import profile
    from runmem.pipe_base.time_method import timeMethod
    from runmem.worker.probe import Probe

    __version__: str

__all__ = [
    "task", "profile", "wait_on", "barrier", "wait_on_file", "open_file", "delete_object", "session", "measure",
    "IN", "OUT", "INOUT", "IN_DELETE", "CONCURRENT", "COMMUTATIVE", "COLLECTION_IN", "FILE_IN", "FILE_OUT",
    "FILE_INOUT", "timeMethod", "Observer", "Probe", "RunmemError", "TaskKilledError", "TaskTimeoutError",
    "__version__",
]  # fmt: skip

_SYNCHRONISE = ("barrier", "delete_object", "open_file", "wait_on", "wait_on_file")
_MODULES = {  # all other names are in graph.directions
    "measure": "cli.measure", "session": "cli.session",
    "RunmemError": "errors", "TaskKilledError": "errors", "TaskTimeoutError": "errors",
    "task": "graph.task", "Observer": "collection.observer", "Probe": "worker.probe",
    "profile": "memory.profile", "timeMethod": "pipe_base.time_method",
    **dict.fromkeys(_SYNCHRONISE, "graph.synchronise"),
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the command line must handle signals before slow imports."""
    if name not in __all__:
        raise AttributeError(f"module 'runmem' has no attribute {name!r}")
    if name == "__version__":
        value: object = _version()
    else:
        from importlib import import_module

        value = getattr(import_module(f"runmem.{_MODULES.get(name, 'graph.directions')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("runmem")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
