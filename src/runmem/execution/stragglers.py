"""Finds the last running call, for which a run waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runmem.events import TaskRecord, TaskWaitedFor
from runmem.execution.call_state import state_of
from runmem.graph.call import Execution

__all__ = ["Stragglers"]


class Stragglers:
    """Reports a call that still runs after all others have ended, once for each call.

    Parameters
    ----------
    report : callable
        Takes the event.
    now : callable
        Returns the time of the run, in seconds since the epoch.
    running : callable
        Takes the number of a call; returns the record of its running attempt, or None.
    quiet_s : float
        Seconds without a new or ended call before a call is reported.
    """

    def __init__(
        self,
        report: Callable[[TaskWaitedFor], object],
        now: Callable[[], float],
        running: Callable[[int], TaskRecord | None],
        quiet_s: float = 60.0,
    ) -> None:
        self._report = report
        self._now = now
        self._running = running
        self._quiet_s = quiet_s
        self._moved_s: float | None = None
        self._named: set[int] = set()

    def moved(self, now_s: float) -> None:
        """Note that a call was made or has ended."""
        self._moved_s = now_s

    def look(self, calls: Iterable[Execution], workers: int, now_s: float) -> None:
        """Report the call that has run longest, if the only others left are calls that run, or that need those.

        Parameters
        ----------
        calls : iterable of Execution
            Those that have not ended.
        workers : int
        now_s : float
            The time, by the same clock as for `moved`.
        """
        if self._moved_s is None or now_s - self._moved_s < self._quiet_s:
            return
        self._moved_s = now_s  # the next look is as much later
        begun = [
            call
            for call in list(calls)
            if call.task_id and all(state_of(needed).done for needed in state_of(call).needs)
        ]
        if not 0 < len(begun) <= workers:  # others wait for a worker
            return
        time_s = self._now()
        found = [(self._running(call.task_id), call) for call in begun]
        record, call = min(found, key=lambda pair: (pair[0].start_s if pair[0] else time_s, pair[1].task_id))
        if call.task_id in self._named:
            return
        self._named.add(call.task_id)
        if record is None:
            self._report(TaskWaitedFor(call.task_id, call.name))
        else:
            self._report(TaskWaitedFor(call.task_id, call.name, time_s - record.start_s, record.node, record.pid))
