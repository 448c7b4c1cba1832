"""Which tasks get a bracket in a `.dat` trace: the longest and the highest, so that `mprof plot` stays quick."""

from __future__ import annotations

__all__ = ["BracketBudget"]

_STEP = 1.5


class BracketBudget:
    """Decide, task by task as they end, which ones are drawn as a bracket.

    The legend of `mprof plot` has a line for each bracket, and room for 26 lines in all; and a trace is append-only: a
    line cannot be taken back when a higher task comes. So the first `budget` tasks that
    last at least one sampling interval are admitted, and after them only one that is a new record by half, in duration
    or in peak.

    Parameters
    ----------
    budget : int
        Tasks that are admitted before only records are.
    interval_s : float
        Sampling interval in seconds: a shorter task is no wider than a point of the plot, and is admitted by its
        peak alone.

    Notes
    -----
    At most ``budget + log(d1/d0, 1.5) + log(p1/p0, 1.5) + 2`` tasks are admitted, d0 and d1 being the shortest
    (at least `interval_s`) and longest duration and p0 and p1 the least and greatest peak above zero.
    """

    def __init__(self, budget: int, interval_s: float = 0.1) -> None:
        self.budget = budget
        self.interval_s = interval_s
        self.admitted = 0
        self._within_budget = 0
        self._longest_s = 0.0
        self._highest_bytes = 0

    def admits(self, duration_s: float, peak_bytes: int | None) -> bool:
        """Return whether the task gets a bracket, and count it if so.

        Parameters
        ----------
        duration_s : float
            Wall time of the task in seconds.
        peak_bytes : int or None
            Its peak; None, when it is not known, is no record.
        """
        peak = peak_bytes or 0
        lasts = duration_s >= self.interval_s
        within = lasts and self._within_budget < self.budget
        longest = lasts and duration_s > self._longest_s * _STEP
        if not (within or longest or peak > self._highest_bytes * _STEP):
            return False
        self._within_budget += within
        self.admitted += 1
        self._longest_s = max(self._longest_s, duration_s)
        self._highest_bytes = max(self._highest_bytes, peak)
        return True
