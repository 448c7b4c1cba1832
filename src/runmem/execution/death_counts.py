"""Has Dask give up a call at the first death of its worker, so that the run decides what happens to it.

By itself Dask tries the task again at once, beside the same neighbours, and gives it up when a fourth worker has died
while it was to run there. A run can do better if it knows the cause: see `after_deaths.py`.
"""

from __future__ import annotations

from distributed import Scheduler, SchedulerPlugin

from runmem.dask_private import count_deaths

__all__ = ["DeathCounts"]


class DeathCounts(SchedulerPlugin):  # type: ignore[misc]
    """Sets the number of worker deaths that Dask counts against a task.

    A task that has not ended yet has one death left. One that has ended well, and is made again because its result was
    lost, has Dask's four, each time anew: nobody has its arguments any more, and in a long run a large argument or a
    result that many calls read would be given up for deaths that it did not cause, and every call that needs it too.

    Parameters
    ----------
    run_id : str
    mark : str
        Part of the keys of the Dask tasks of the run's program; those of others, and of tasks, are not changed.
    """

    def __init__(self, run_id: str, mark: str) -> None:
        self.name = f"runmem-death-counts-{run_id}"
        self._mark = mark
        self._scheduler: Scheduler | None = None
        self._ended: set[object] = set()

    async def start(self, scheduler: Scheduler) -> None:
        """Remember the scheduler."""
        self._scheduler = scheduler

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: object) -> None:
        """Set the count of a task when it is given to a worker, and when it has ended well."""
        if self._scheduler is None or self._mark not in str(key):
            return
        if finish == "processing" and key not in self._ended:
            count_deaths(self._scheduler, key, self._scheduler.allowed_failures)
        elif finish == "memory":
            self._ended.add(key)
            count_deaths(self._scheduler, key, 0)
        elif finish == "forgotten":
            self._ended.discard(key)
