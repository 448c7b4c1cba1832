"""Keeps Dask from giving up a task because of workers that died long ago."""

from __future__ import annotations

from distributed import Scheduler, SchedulerPlugin

__all__ = ["DeathCountReset"]


class DeathCountReset(SchedulerPlugin):  # type: ignore[misc]
    """Resets the number of worker deaths that Dask counts against a task each time that the task ends well.

    Dask gives a task up when a fourth worker has died while it was to run there, and counts over the whole run. A large
    argument or a result that many calls read is made again after each death, although it did not cause it; in a long
    run it would be given up, and with it every call that needs it.

    Parameters
    ----------
    run_id : str
    mark : str
        Part of the keys of the run's Dask tasks; tasks of others are not changed.
    """

    def __init__(self, run_id: str, mark: str) -> None:
        self.name = f"runmem-death-counts-{run_id}"
        self._mark = mark
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler."""
        self._scheduler = scheduler

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: object) -> None:
        """Reset the count of a task that has ended well."""
        if finish == "memory" and self._scheduler is not None and self._mark in str(key):
            task = self._scheduler.tasks.get(key)
            if task is not None and task.suspicious:
                task.suspicious = 0
