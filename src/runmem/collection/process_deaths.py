"""Knows which processes of a run have died, and records the calls that were cut off with them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from runmem.collection.job_ends import JobEnds
from runmem.collection.killed_tasks import with_tasks_in_process
from runmem.collection.observer import Observers
from runmem.deaths import Cause, Death
from runmem.events import RecordLines, TaskKilled, TaskMeasured, TaskRecord
from runmem.formats.mprof import read_trace
from runmem.formats.totals import offset_before
from runmem.store.batch_job import BatchJob
from runmem.store.layout import RunDirectory
from runmem.store.records import LOST_END, killed, record_to_line
from runmem.store.run import readings_of, with_children
from runmem.store.task_lines import TaskLines

__all__ = ["DiedWorker", "Kill", "ProcessDeaths", "StartDeath"]

_LONGEST_CAUSE_WAIT_S = 1.0  # for the cause of a death, after the death itself
_NODE_GONE = "the node was lost: neither its workers nor their nannies are connected any more"
_ONLY_THERE = "what happened there is known on that node only, if it still runs"
_UNKNOWN_DEATH = "the worker process died for an unknown reason"
_NO_NANNY = "no nanny has noted the node's free memory and the other tasks then"
_LEFT = "its worker left the cluster before the task ended; the task was run again"


class _Noted(NamedTuple):
    """The death of a process as noted on its node; if a time limit was exceeded, the task and its stack."""

    death: Death
    task_id: int | None = None
    stack: str | None = None


class DiedWorker(NamedTuple):
    """The death of a worker, and the numbers of the calls that ran there; empty: none did, or they are not known."""

    death: Death
    calls: frozenset[int] = frozenset()


class StartDeath(NamedTuple):
    """The death of a worker on a node before it had joined the run."""

    node: str
    death: Death


class Kill(NamedTuple):
    """What is known of the end of a call whose process died.

    Attributes
    ----------
    text : str
        The cause, as a sentence without its full stop.
    record : TaskRecord or None
        Record of the last killed attempt; its `death` has the facts. None if there is none.
    death : Death or None
        For a call without a record; None: not known.
    """

    text: str
    record: TaskRecord | None = None
    death: Death | None = None


class ProcessDeaths:
    """Follows the deaths of the processes of a run.

    Except for what is said to be for any thread, callers have the lock of the collector.

    Parameters
    ----------
    run : RunDirectory
    tasks : TaskLines
        The task lines that were read, with the calls that each process has begun and not ended.
    observers : Observers

    Attributes
    ----------
    unsure : set
        Workers, as (node, process id), that could not write all their task lines.
    cancelled : int
        Number of tasks that were running when the run was ended early.
    """

    def __init__(self, run: RunDirectory, tasks: TaskLines, observers: Observers) -> None:
        self._run = run
        self._tasks = tasks
        self._observers = observers
        self._causes: dict[tuple[str, int], _Noted] = {}
        self._died: dict[str, DiedWorker] = {}
        self._at_start: list[StartDeath] = []
        self._dead: dict[tuple[str, int], float] = {}
        self._closed: set[tuple[str, int]] = set()
        self._cut_off: str | None = None
        self._died_before: set[tuple[str, int]] = set()  # before the calls were cut off
        self._jobs: dict[tuple[str, int], BatchJob] = {}
        self._job_ends = JobEnds()
        self._incomplete: set[str] = set()
        self._kills: dict[int, Kill] = {}
        self.unsure: set[tuple[str, int]] = set()
        self.cancelled = 0

    # --- what is known, for any thread --------------------------------------------------------------------------------

    def died(self, worker: str) -> DiedWorker | None:
        """Return how the worker with this address has died; None: that is not known (yet)."""
        return self._died.get(worker)

    def at_start(self) -> list[StartDeath]:
        """Return the deaths of workers that had not joined the run, in the order in which they were read."""
        return list(self._at_start)

    def last_kill(self, task_id: int) -> Kill | None:
        """Return how the last attempt at a call was killed, as far as is known now."""
        return self._kills.get(task_id)

    def only_killed(self) -> list[int]:
        """Return the calls that were killed and never ended otherwise."""
        return [task_id for task_id in self._kills if not self._tasks.has_ended(task_id)]

    @property
    def are_clear_soon(self) -> bool:
        """Whether a batch system is being asked about a death."""
        return self._job_ends.is_asking

    # --- what the collector reads -------------------------------------------------------------------------------------

    def note(self, node: str, noted: dict[str, Any]) -> None:
        """Note the death of a process, from a line about it.

        Raises
        ------
        ValueError, KeyError, TypeError
            If the line is damaged.
        """
        if (death := Death.from_values(noted)) is None:
            raise ValueError("the death of a process without its cause")
        self._causes.setdefault((node, noted["pid"]), _Noted(death, noted.get("task_id"), noted.get("stack")))
        if "worker" not in noted:
            self._at_start.append(StartDeath(node, death))
        else:
            self._died.setdefault(noted["worker"], DiedWorker(death, frozenset(noted["calls"])))

    def note_job(self, node: str, pid: int, job: BatchJob) -> None:
        """Note the batch job in which a process runs."""
        self._jobs[node, pid] = job

    def note_dead(self, node: str, pids: Iterable[int]) -> None:
        """Note that processes are gone."""
        for pid in pids:
            self._dead.setdefault((node, pid), time.monotonic())

    def note_lost_node(self, node: str) -> None:
        """Note that the processes of a node that run tasks are gone, with their nannies."""
        busy = self._tasks.busy_processes(node)
        for pid in busy:
            self._causes.setdefault((node, pid), _Noted(Death(Cause.NODE_GONE, _NODE_GONE, missing=_ONLY_THERE)))
        self.note_dead(node, busy)

    def note_incomplete(self, node: str) -> None:
        """Note that lines of a node are lost: a task without an end line may have ended there."""
        self._incomplete.add(node)

    def cut_off(self, reason: str) -> None:
        """Record unfinished calls of processes that end from now on as cancelled, not as killed."""
        self._died_before = {key for key in self._dead if key in self._causes}
        self._cut_off = reason

    # --- records of calls that were cut off ---------------------------------------------------------------------------

    def close(self, last: bool) -> None:
        """Record the unfinished calls of dead processes as killed, once the cause is known or overdue (`last`: now)."""
        for (node, pid), since in list(self._dead.items()):
            if (node, pid) in self._closed:
                continue
            noted = self._causes.get((node, pid))
            if noted is None and not last and time.monotonic() - since < _LONGEST_CAUSE_WAIT_S:
                continue
            death = noted.death if noted is not None else Death(Cause.UNKNOWN, _UNKNOWN_DEATH, missing=_NO_NANNY)
            in_job = self._death_in_job(node, pid, death)
            if in_job is None and not last:
                continue
            death = in_job or death
            self._closed.add((node, pid))
            unfinished = self._tasks.pop_unfinished(node, pid)
            if noted is not None and noted.task_id is not None:
                late = [replace(record, stack=noted.stack) for record in unfinished if record.task_id == noted.task_id]
                self._record(late, death, "killed")
                unfinished = [record for record in unfinished if record.task_id != noted.task_id]
                words = f"call {noted.task_id}, which ran in the same process, reached its time limit"
                death = replace(death, words=words)
            if self._cut_off is not None and (node, pid) not in self._died_before:
                self._record(unfinished, Death.unknown(self._cut_off), "cancelled")
            else:
                self._record(unfinished, death, "killed")

    def _death_in_job(self, node: str, pid: int, death: Death) -> Death | None:
        """Return a death with what is known of the batch job, if nobody on the node knows more; None: soon."""
        job = self._jobs.get((node, pid))
        is_clear = death.cause not in (Cause.UNKNOWN, Cause.NODE_GONE) or self._cut_off is not None
        if is_clear or job is None or not self._tasks.is_busy(node, pid):
            return death
        return self._job_ends.death((node, pid), job, death)

    def close_all(self, all_ended: bool) -> None:
        """Record all unfinished calls, at the end of the run.

        Parameters
        ----------
        all_ended : bool
            Whether every call has ended. If so, a call without an end line was not killed: its line was lost.
        """
        given_up = self._tasks.pop_unfinished(include_repeated=False)
        left = [record for record in given_up if self._tasks.has_begun_again(record)]
        unfinished = [record for record in given_up if record not in left]
        self._record(left, Death(Cause.NODE_GONE, _LEFT), "killed")
        if all_ended:
            self._end_as_lost(unfinished)
        else:
            reason = self._cut_off or "the program ended before the task did"
            self._record(unfinished, Death.unknown(reason), "cancelled")

    def _record(self, unfinished: list[TaskRecord], death: Death, status: str) -> None:
        """Write records for calls that cannot end, because their process died or the run no longer waits for it."""
        sure = [record for record in unfinished if not self._is_unsure(record)]
        self._end_as_lost([record for record in unfinished if self._is_unsure(record)])
        if not sure:
            return
        began_s = min(record.start_s for record in sure)  # so that a trace of several days is not read in full
        traces = [read_trace(path, offset_before(path, began_s)) for path in self._traces()]
        for record in sure:
            its = with_tasks_in_process(death, [other for other in unfinished if other is not record])
            done = with_children(killed(record, readings_of(traces, record.pid), its, status), traces)
            self._kills[record.task_id] = Kill(done.reason or _UNKNOWN_DEATH, done)
            self.cancelled += status == "cancelled"
            if status == "killed":
                self._observers.task_killed(TaskKilled(done))
            self._observers.records_written(RecordLines(record_to_line(done), 1))
            self._observers.task_measured(TaskMeasured(done))

    def _traces(self) -> list[Path]:
        return list(self._run.traces.glob("*.dat"))

    def _is_unsure(self, record: TaskRecord) -> bool:
        """Return True if lines of the process may be missing: the task may have ended instead of being killed."""
        return record.node in self._incomplete or (record.node, record.pid) in self.unsure

    def _end_as_lost(self, unfinished: list[TaskRecord]) -> None:
        for record in unfinished:
            self._kills[record.task_id] = Kill(LOST_END)
            line = record_to_line(replace(record, reason=LOST_END))
            self._observers.records_written(RecordLines(line, 1))
