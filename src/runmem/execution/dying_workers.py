"""Notices that every worker of the cluster dies as it starts, so that calls would wait for one without end."""

from __future__ import annotations

import time
from collections.abc import Callable

import distributed

from runmem.collection.killed_tasks import advice
from runmem.deaths import Cause
from runmem.errors import ClusterError
from runmem.execution.death_news import DeathNews
from runmem.standard_error import say

__all__ = ["DyingWorkers"]

_LOOK_S = 0.5
_FEWEST_DEATHS = 3
_WITHOUT_WORKERS_S = 30.0  # before the user is informed


class DyingWorkers:
    """Looks now and then whether there are workers.

    Parameters
    ----------
    news : DeathNews
    waiting : callable
        Returns the number of calls that wait.
    """

    def __init__(self, news: DeathNews, waiting: Callable[[], int]) -> None:
        self._news, self._waiting = news, waiting
        self._next_s = 0.0
        self._empty_since_s: float | None = None
        self._deaths_before = 0
        self._has_said = False

    def look(self, client: distributed.Client, workers: int, now_s: float | None = None) -> None:
        """Raise ClusterError if there is no worker, and `workers` of them have died twice as they started.

        Parameters
        ----------
        workers : int
            Number of workers that the cluster had at first.
        now_s : float, optional
            Seconds of the monotonic clock.
        """
        now_s = time.monotonic() if now_s is None else now_s
        if now_s < self._next_s:
            return
        self._next_s = now_s + _LOOK_S
        waiting = self._waiting()
        if not waiting or client.scheduler_info(n_workers=1)["workers"]:
            self._empty_since_s, self._has_said = None, False
            return
        deaths = self._news.deaths_at_start()
        if self._empty_since_s is None:
            self._empty_since_s, self._deaths_before = now_s, len(deaths)
        died = deaths[self._deaths_before :]
        elapsed_s = now_s - self._empty_since_s
        last = died[-1] if died else None
        what = "" if last is None else f" The last one, on node {last.node}: {last.death.words}."
        if len(died) >= max(_FEWEST_DEATHS, 2 * workers):
            assert last is not None
            remedy = "" if last.death.cause is Cause.EXIT else f" {advice(last.death)}"
            raise ClusterError(
                f"every worker of the cluster dies as it starts: {len(died)} have died in {elapsed_s:.0f} s, and none "
                f"is left.{what} What they wrote is above, or in the logs of their jobs.{remedy}"
            )
        if elapsed_s > _WITHOUT_WORKERS_S and not self._has_said:
            self._has_said = True
            calls = f"{waiting:,} call{'s' * (waiting != 1)}"
            say(f"runmem: the cluster has had no worker for {elapsed_s:.0f} s, and {calls} wait for one.{what}")
