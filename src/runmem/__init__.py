"""runmem: run sequential Python as a task graph on Dask, and know the true memory of every task, line and node."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from runmem.cli.session import session
    from runmem.memory.profile import profile
    from runmem.metrics.time_method import timeMethod

__all__ = [
    "task", "profile", "wait_on", "barrier", "wait_on_file", "open_file", "delete_object", "session",
    "IN", "OUT", "INOUT", "IN_DELETE", "CONCURRENT", "COMMUTATIVE", "COLLECTION_IN", "FILE_IN", "FILE_OUT",
    "FILE_INOUT", "timeMethod", "RunmemError", "TaskKilledError", "TaskTimeoutError", "__version__",
]  # fmt: skip

try:
    __version__ = version("runmem")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import what is heavier only when it is used."""
    if name == "profile":
        from runmem.memory.profile import profile

        return profile
    if name == "session":
        from runmem.cli.session import session

        return session
    if name == "timeMethod":
        from runmem.metrics.time_method import timeMethod

        return timeMethod
    raise AttributeError(f"module 'runmem' has no attribute {name!r}")
