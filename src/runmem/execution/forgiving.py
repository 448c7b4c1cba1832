"""Keeps Dask from blaming a task for workers that died long ago."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, SchedulerPlugin

__all__ = ["Forgiving"]


class Forgiving(SchedulerPlugin):  # type: ignore[misc]
    """Counts the deaths of workers against a task only since it last ended well.

    Dask gives a task up when a fourth worker has died while it was to run there, and counts over the whole run. A large
    argument or a result that many calls read is made again after each death that it had no part in; in a long run it
    would be given up, and every call that needs it with it.

    Parameters
    ----------
    run_id : str
    mark : str
        What the keys of the run's Dask tasks have in them; those of others are left alone.
    """

    def __init__(self, run_id: str, mark: str) -> None:
        self.name = f"runmem-forgiving-{run_id}"
        self._mark = mark
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Take note of the scheduler."""
        self._scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Forget what was counted, when a task has ended well."""
        if finish == "memory" and self._scheduler is not None and self._mark in str(key):
            task = self._scheduler.tasks.get(key)
            if task is not None and task.suspicious:
                task.suspicious = 0
