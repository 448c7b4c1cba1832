"""`runmem.session`: a run from a script or a notebook, with the output of the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from runmem.cli.run import summarise
from runmem.collection.observer import Observer
from runmem.dashboard.terminal import PlainView
from runmem.execution.run import Run
from runmem.execution.session import new_run
from runmem.worker.probe import Probe

__all__ = ["session"]


class _PrintingRun(Run):
    """A run that prints its summary at the end of the block."""

    def __exit__(self, *ended: Any) -> None:
        try:
            super().__exit__(*ended)
        finally:
            if self.program.calls or self.settings.python_memory_profile:
                summarise(self)


def session(
    app: str | None = None,
    *,
    summary: bool = True,
    observers: Sequence[Observer | str] = (),
    probes: Sequence[Probe | type[Probe] | str] = (),
    **settings: Any,
) -> Run:
    """Return a context manager that runs tasks called in its block on a cluster.

    Parameters
    ----------
    app : str, optional
        Name of the run directory; default the name of the script or the notebook.
    summary : bool
        Whether to print workers and dashboard when the cluster starts, and the summary at the end, to standard error.
    observers : sequence of Observer or str
        Receivers of the events of the run, see `runmem.Observer`; a string is ``module:Class``.
    probes : sequence of Probe, type or str
        More measurements of each task on its worker, see `runmem.Probe`; a class, or a string ``module:Class``, is
        instantiated there. Needs ``python_memory_profile=True``.
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
        On entering the block, if the run cannot start.

    Notes
    -----
    The exception of a task that the block did not wait for is raised at its end.
    """
    if not summary:
        return new_run(app, settings, observers=observers, probes=probes)
    return new_run(app, settings, _PrintingRun, [PlainView(sys.stderr), *observers], probes)
