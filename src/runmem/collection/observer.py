"""Observers, which receive the events of a run on the master."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from runmem.events import (
    CaptureReceived,
    ClusterStarted,
    DataLost,
    LogLines,
    MemoryManaged,
    NodeSampled,
    ProfileReported,
    RecordLines,
    RunEnded,
    TaskEnded,
    TaskKilled,
    TaskMeasured,
    TasksRunning,
    TaskStarted,
    TaskSubmitted,
    TaskWaitedFor,
)

__all__ = ["Observer", "Observers"]

log = logging.getLogger(__name__)


class Observer:
    """Receives the events of a run. Override the methods that you need.

    Methods are called from several threads, one call at a time for each observer, and must return quickly. One that
    raises is logged with its class and method, and the run goes on.
    """

    def cluster_started(self, event: ClusterStarted) -> None:
        """Workers are ready."""

    def task_submitted(self, event: TaskSubmitted) -> None:
        """The program called a task."""

    def task_started(self, event: TaskStarted) -> None:
        """A worker began a task (only where memory is measured)."""

    def task_ended(self, event: TaskEnded) -> None:
        """A task finished or failed."""

    def task_waited_for(self, event: TaskWaitedFor) -> None:
        """A task still runs after all others have ended."""

    def tasks_running(self, event: TasksRunning) -> None:
        """The number of running tasks; about twice a second (only where memory is measured)."""

    def records_written(self, event: RecordLines) -> None:
        """Records of tasks, as lines; many at a time."""

    def task_measured(self, event: TaskMeasured) -> None:
        """The measurement of a task."""

    def task_killed(self, event: TaskKilled) -> None:
        """The process of a running task died."""

    def node_sampled(self, event: NodeSampled) -> None:
        """The memory of a node; about twice a second for each node."""

    def memory_managed(self, event: MemoryManaged) -> None:
        """Dask has spilled, paused, resumed, terminated or restarted because the memory of a worker was short."""

    def profile_reported(self, event: ProfileReported) -> None:
        """A `@profile` report of a worker."""

    def capture_received(self, event: CaptureReceived) -> None:
        """A part of a file with the allocations of a call."""

    def records_logged(self, event: LogLines) -> None:
        """Log records of tasks."""

    def data_lost(self, event: DataLost) -> None:
        """Measurements were lost."""

    def run_ended(self, event: RunEnded) -> None:
        """The run is complete; this is the last event."""


class Observers(Observer):
    """Passes each event on to the observers that override its method."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._heard = set()
        for hook in _HOOKS:
            plain = getattr(Observer, hook)
            listeners = [getattr(each, hook) for each in observers if getattr(type(each), hook) is not plain]
            if listeners:
                self._heard.add(hook)
            setattr(self, hook, partial(_notify, listeners))

    def hears(self, hook: str) -> bool:
        """Return True if an observer overrides a method."""
        return hook in self._heard


_HOOKS = [name for name in vars(Observer) if not name.startswith("_")]


def _notify(listeners: Sequence[Callable[[Any], None]], event: Any) -> None:
    for listener in listeners:
        try:
            listener(event)
        except Exception:
            log.exception("%s failed", getattr(listener, "__qualname__", listener))
