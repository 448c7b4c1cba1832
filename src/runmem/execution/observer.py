"""What can watch a run on the master."""

from __future__ import annotations

import logging
from typing import Any

from runmem.events import (
    DataLost,
    LogLines,
    NodeSampled,
    ProfileReported,
    RecordLines,
    TaskEnded,
    TaskMeasured,
    TaskStarted,
    TaskSubmitted,
    TaskWaitedFor,
)

__all__ = ["Observer", "Observers"]

log = logging.getLogger(__name__)


class Observer:
    """Receives what happens in a run. Override what you need.

    Methods are called from several threads, one call at a time for each observer, and must return quickly. One that
    raises is logged with its class and method, and the run goes on.
    """

    def cluster_started(self, dashboard: str | None, workers: int) -> None:
        """Workers are ready; `dashboard` is the address of the Dask dashboard."""

    def task_submitted(self, event: TaskSubmitted) -> None:
        """The program called a task."""

    def task_started(self, event: TaskStarted) -> None:
        """A worker began a task (only where memory is measured)."""

    def task_ended(self, event: TaskEnded) -> None:
        """A task finished or failed."""

    def task_waited_for(self, event: TaskWaitedFor) -> None:
        """A task runs on while all else has ended."""

    def tasks_running(self, running: int) -> None:
        """So many tasks have started and not ended, as far as is known (only where memory is measured)."""

    def records_written(self, event: RecordLines) -> None:
        """Records of tasks came in, as lines; many at a time."""

    def task_measured(self, event: TaskMeasured) -> None:
        """The measurement of a task came in."""

    def node_sampled(self, event: NodeSampled) -> None:
        """The memory of a node came in; about twice a second for each node."""

    def profile_reported(self, event: ProfileReported) -> None:
        """A `@profile` report came from a worker."""

    def records_logged(self, event: LogLines) -> None:
        """What tasks have logged came from a worker."""

    def data_lost(self, event: DataLost) -> None:
        """Measurements were lost."""

    def run_ended(self) -> None:
        """All is collected; nothing more will come."""


class Observers:
    """Passes events on to observers; it is called like one."""

    def __init__(self, observers: list[Observer]) -> None:
        self._listeners: dict[str, list[Any]] = {}
        for hook in (name for name in vars(Observer) if not name.startswith("_")):
            self._listeners[hook] = [
                getattr(o, hook) for o in observers if getattr(type(o), hook) is not getattr(Observer, hook)
            ]

    def hears(self, hook: str) -> bool:
        """Tell whether any observer overrides `hook`."""
        return bool(self._listeners[hook])

    def tell(self, hook: str, *event: Any) -> None:
        """Call `hook` of every observer that overrides it."""
        for listener in self._listeners[hook]:
            try:
                listener(*event)
            except Exception:
                log.exception("%s.%s failed", type(listener.__self__).__name__, hook)
