"""A run from inside a script or a notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from runmem.execution.run import Run
from runmem.settings import resolve

__all__ = ["session"]


def session(app: str | None = None, **settings: Any) -> Run:
    """Return a run to be used as a context manager: inside it, calls of tasks go to the cluster.

    Parameters
    ----------
    app : str, optional
        Name of the run directory; default the name of the script, or ``session``.
    **settings
        As on the command line: ``workers=4``, ``python_memory_profile=True``, ``worker_memory="2GiB"``,
        ``memory_interval=0.1``, ``scheduler="tcp://..."``.

    Examples
    --------
    ::

        with runmem.session(workers=2, python_memory_profile=True) as run:
            results = runmem.wait_on([square(i) for i in range(10)])
        print(run.directory.root)

    Raises
    ------
    SettingError, ClusterError
        On entering, if the run cannot take place.

    Notes
    -----
    The exception of a task that nobody waited for is raised at the end of the block.
    """
    short = {
        "worker_memory": "worker_memory_bytes", "memory_interval": "memory_interval_s",
        "spool_size": "spool_size_bytes",
    }  # fmt: skip
    values = {short.get(name, name): value for name, value in settings.items()}
    name = app or (Path(sys.argv[0]).stem if sys.argv and sys.argv[0].endswith(".py") else "session")
    return Run(resolve(values), name, sys.argv or [name])
