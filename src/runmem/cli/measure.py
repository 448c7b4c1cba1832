"""`runmem.measure`: the memory of every task of a Dask program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import distributed

from runmem.cli.summarise import summarise_run
from runmem.collection.observer import Observer
from runmem.dashboard.memory_warnings import MemoryWarnings
from runmem.errors import SettingError
from runmem.execution.session import name_of_program
from runmem.extensions import make_extensions
from runmem.measurement.measurement import Measurement, measurement_settings
from runmem.reports.notebook import run_html
from runmem.reports.summary import RunSummary
from runmem.settings import Settings
from runmem.standard_error import say
from runmem.store.run import read_run

__all__ = ["ReportedMeasurement", "measure"]


class ReportedMeasurement(Measurement):
    """A measurement that prints its summary at the end of its block, and is shown as table and figure in a notebook."""

    def __init__(
        self, client: distributed.Client, app: str, settings: Settings, observers: Sequence[Observer], prints: bool
    ) -> None:
        super().__init__(client, app, settings, [MemoryWarnings(), *observers])
        self._prints = prints

    def wait_for_workers(self) -> None:
        """Wait until the present workers have answered, and name those that are not measured."""
        super().wait_for_workers()
        for refusal in self.refusals:
            say(f"runmem: {refusal}.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if self._prints:
                summarise_run(self.directory.root)

    def summary(self) -> RunSummary:
        """Return the summary of what is measured so far."""
        return RunSummary.from_run(read_run(self.directory.root))

    def _repr_html_(self) -> str:
        if not hasattr(self, "directory"):
            return "<p>runmem: the measurement has not started.</p>"
        return run_html(read_run(self.directory.root))


def measure(
    client: distributed.Client | None = None,
    *,
    app: str | None = None,
    summary: bool | None = None,
    observers: Sequence[Observer | str] = (),
    **settings: Any,
) -> ReportedMeasurement:
    """Return a context manager that measures all tasks that a Dask cluster runs in its block.

    Parameters
    ----------
    client : distributed.Client, optional
        A client of the cluster; default the current one.
    app : str, optional
        Name of the run directory; default the name of the script or the notebook.
    summary : bool, optional
        Whether to print the summary at the end of the block, to standard error; default: except in a notebook, which
        shows the returned object as a table and a figure.
    observers : sequence of Observer or str
        Receivers of the events, see `runmem.Observer`; a string is ``module:Class``.
    **settings
        ``memory_interval`` (seconds between two samples of a node), ``memory_metric``, ``run_folder``, ``spool_size``;
        ``on_memory``: what is done about a task whose worker was killed for its memory, ``"retry_alone"`` (once more,
        alone on its node) or ``"fail"``. Default: what Dask does, which tries it again beside other tasks, three times.

    Returns
    -------
    ReportedMeasurement
        With `start()` and `stop()` for use without a block, `directory.root` (path of the run directory) and
        `summary()`.

    Examples
    --------
    ::

        with runmem.measure(client) as measured:
            array.mean().compute()
        print(measured.directory.root)

    Raises
    ------
    SettingError, ClusterError
        If the cluster cannot be measured; at the latest at the start.

    Notes
    -----
    No worker is restarted, and at the end nothing of runmem is left in the cluster. The peak of a task is exact where
    its worker has one thread; otherwise it may be an upper bound, and is labelled.
    """
    if client is None:
        try:
            client = distributed.get_client()
        except ValueError:
            raise SettingError("there is no client of Dask: make one, or pass it to measure(client).") from None
    if not isinstance(client, distributed.Client):
        raise SettingError(
            f"measure() takes a client of Dask, and this is of the type {type(client).__name__}: for a cluster, pass "
            "Client(cluster)."
        )
    made = make_extensions(observers, Observer, "measure(observers=)")
    prints = "ipykernel" not in sys.modules if summary is None else summary
    return ReportedMeasurement(client, app or name_of_program(), measurement_settings(settings), made, prints)
