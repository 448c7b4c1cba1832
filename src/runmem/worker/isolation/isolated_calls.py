"""Calls of a worker that run in fresh processes."""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from runmem.collection.killed_tasks import set_facts
from runmem.deaths import Death
from runmem.errors import RunmemError, TaskKilledError, TaskTimeoutError
from runmem.memory.profile_report import ProfileReport
from runmem.serialization.task_error import PackedError, set_root_task
from runmem.store.layout import Spool
from runmem.store.node_name import node_name
from runmem.worker.cancellation import cancelled_calls
from runmem.worker.isolation.fresh_process import CallEnd
from runmem.worker.isolation.prepared_process import Preparation, PreparedProcess
from runmem.worker.node_then import with_tasks_beside
from runmem.worker.record_fields import set_record_fields

if TYPE_CHECKING:
    from runmem.worker.call_recorder import WorkerRun

__all__ = ["CallReport", "IsolatedCalls", "killed_error", "with_neighbours"]


class CallReport(NamedTuple):
    """What a fresh process reports of the call that it has run.

    Attributes
    ----------
    good : bool
        Whether the call ended well.
    result : object
        Its result, as a worker keeps it, or its `PackedError`.
    fields : dict
        Fields of its record.
    profiles : list of ProfileReport
    has_logged : bool
    """

    good: bool
    result: object
    fields: dict[str, object]
    profiles: list[ProfileReport]
    has_logged: bool


class IsolatedCalls:
    """Runs the calls of one run that are to have a process of their own.

    Parameters
    ----------
    run_id : str
    preparation : Preparation
        Its `run` returns a `CallReport`.
    run : WorkerRun or None
        Takes profiles; None: this worker could not join the run.
    """

    def __init__(self, run_id: str, preparation: Preparation, run: WorkerRun | None) -> None:
        self._run = run
        self._cancelled = cancelled_calls[run_id]
        self._preparation = pickle.dumps(preparation)
        self._idle: list[PreparedProcess] = []

    def run(self, name: str, task_id: int, task: bytes, call: bytes, limit_s: float | None) -> tuple[bool, object]:
        """Run a call and set the fields of its record; return True and its result, or False and its `PackedError`.

        Parameters
        ----------
        name, task_id
            Name of the task, and number of the call.
        task, call : bytes
            See `Preparation`.
        limit_s : float or None
            Seconds that the call may take.
        """

        run = self._run

        def is_wanted() -> bool:
            return task_id not in self._cancelled and not (run is not None and run.stopped)

        process = self._ready_process()
        ended = process.run(task, call, limit_s, is_wanted)
        self._idle.append(process)
        own = {"target_pid": ended.pid} if ended.pid else {}
        if ended.result is None:
            if run is not None:
                ended = with_neighbours(ended, run.spool)
            set_record_fields(**ended.fields, **own)
            return False, PackedError.of(_error(ended, name, task_id, limit_s))
        report: CallReport = pickle.loads(ended.result)
        set_record_fields(**report.fields, **own)
        if run is not None:
            for profile in report.profiles:
                run.report(profile)
            if report.has_logged and run.task_logging is not None:
                run.task_logging.has_news = True
        return report.good, report.result

    def _ready_process(self) -> PreparedProcess:
        """Remove an idle process from the list, or start one. Called by several threads."""
        while True:
            try:
                process = self._idle.pop()
            except IndexError:
                return PreparedProcess(self._preparation)
            if process.is_running:
                return process

    def close(self) -> None:
        """End the processes that run no call."""
        while self._idle:
            self._idle.pop().close()


def with_neighbours(ended: CallEnd, spool: Spool) -> CallEnd:
    """Return the end of a call whose process, forked on behalf of this one, died, with the tasks beside it."""
    found = ended.fields.get("death")
    if not isinstance(found, dict) or (death := Death.from_values(found)) is None:
        return ended
    death = with_tasks_beside(death, spool, os.getpid())
    return ended._replace(fields={**ended.fields, "death": asdict(death)})


def _error(ended: CallEnd, name: str, task_id: int, limit_s: float | None) -> RunmemError:
    """Return the error of a call whose process died."""
    if not ended.timed_out:
        killed = killed_error(name, task_id, ended.cause, ended.pid)
        found = ended.fields.get("death")
        if isinstance(found, dict) and (death := Death.from_values(found)) is not None:
            set_facts(killed, death)
        return killed
    error = TaskTimeoutError(f"task {name} (call {task_id}): {ended.cause} (node {node_name()}, process {ended.pid})")
    error.name, error.task_id, error.limit_s = name, task_id, limit_s or 0.0
    error.cause, error.node, error.pid = ended.cause, node_name(), ended.pid
    set_root_task(error, task_id)
    return error


def killed_error(name: str, task_id: int, cause: str | None, pid: int = 0) -> TaskKilledError:
    """Return the error of a call whose process died; 0: no process is known."""
    error = TaskKilledError(name, task_id)
    where = f" (node {node_name()}, process {pid})" if pid else ""
    error.args = (f"task {name} (call {task_id}): {cause}{where}",)
    error.task_id = None  # the text is complete: what was measured is in the record
    error.cause, error.node, error.pid = cause, node_name(), pid or None
    return error
