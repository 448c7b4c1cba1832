"""Finds the call that a run waits for when all else has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runmem.events import TaskRecord, TaskWaitedFor
from runmem.graph.call import Execution

__all__ = ["Stragglers"]


class Stragglers:
    """Names a call that runs on while nothing else does, once for each call.

    Parameters
    ----------
    report : callable
        Takes the event.
    now : callable
        Gives the time of the run, in seconds since the epoch.
    running : callable
        Gives what is known of the attempt that runs, by the number of the call; None: nothing is.
    quiet_s : float
        For so many seconds nothing has begun or ended before a call is named.
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
        """Note that a call was made, or has ended."""
        self._moved_s = now_s

    def look(self, calls: Iterable[Execution], workers: int, now_s: float) -> None:
        """Name the call that has run longest, if only those are left that run and what needs them.

        Parameters
        ----------
        calls : iterable of Execution
            Those that have not ended.
        workers : int
        now_s : float
            The time of a clock that `moved` goes by too.
        """
        if self._moved_s is None or now_s - self._moved_s < self._quiet_s:
            return
        self._moved_s = now_s  # the next look is as long after this one
        begun = [call for call in calls if call.task_id and all(needed.state.done for needed in call.state.needs)]
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
