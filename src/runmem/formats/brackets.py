"""Choose the tasks that get a bracket in a `.dat` trace: the longest and the highest, to keep `mprof plot` fast."""

from __future__ import annotations

__all__ = ["BracketBudget"]

_STEP = 1.5


class BracketBudget:
    """Decide for each task, as it ends, whether it gets a bracket.

    The legend of `mprof plot` has a line for each bracket, and room for 26 lines, and a trace is append-only: a bracket
    cannot be removed for a higher task. So the first `budget` tasks that last at least one sampling interval are
    admitted, and after them only tasks that exceed all earlier ones by half, in duration or in peak.

    Parameters
    ----------
    budget : int
        Number of tasks to admit unconditionally.
    interval_s : float
        Sampling interval in seconds: a shorter task is only a point in the plot, and is admitted only by its peak.

    Notes
    -----
    At most ``budget + log(d1/d0, 1.5) + log(p1/p0, 1.5) + 2`` tasks are admitted, where d0 and d1 are the shortest
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
        """Return True and count the task if it gets a bracket.

        Parameters
        ----------
        duration_s : float
            Wall time of the task in seconds.
        peak_bytes : int or None
            Its peak; None if not known.
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
