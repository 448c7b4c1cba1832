"""What a run knows of the deaths of its workers; nothing here waits."""

from __future__ import annotations

from collections.abc import Callable

from runmem.collection.collector import Collector
from runmem.collection.process_deaths import DiedWorker, Kill, StartDeath

__all__ = ["DeathNews"]


class DeathNews:
    """The deaths of the workers of a run, for its submitter.

    Parameters
    ----------
    collector : Collector
    measures : bool
        Whether calls whose worker has died get records.
    can_raise : bool
        Whether the limits of the workers may be raised: the run has started them.
    decides : callable
        Returns whether Dask gives up calls at the first death of their worker, so that the submitter decides.
    """

    def __init__(self, collector: Collector, measures: bool, can_raise: bool, decides: Callable[[], bool]) -> None:
        self._collector = collector
        self._decides = decides
        self.measures = measures
        self.can_raise = can_raise

    @property
    def decides(self) -> bool:
        """Whether the submitter hears of the first death of the worker of a call, and decides about it."""
        return self._decides()

    def died(self, worker: str) -> DiedWorker | None:
        """Return how the worker with this address has died; None: that is not known (yet)."""
        return self._collector.died(worker)

    def last_kill(self, task_id: int) -> Kill | None:
        """Return how the last attempt at a call was killed; None: that is not known (yet)."""
        return self._collector.last_kill(task_id)

    def deaths_at_start(self) -> list[StartDeath]:
        """Return the deaths of workers that had not joined the run."""
        return self._collector.deaths_at_start()
