"""A process of the local pool that runs one target after the other, and records them as a worker does."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from runmem.errors import RunmemError
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.profile_report import set_report_sink
from runmem.store.node_name import node_name
from runmem.task_runner import messages
from runmem.task_runner.fork_server import (
    Children,
    Outcome,
    ServerSetup,
    call_runner,
    die_with_parent,
    set_logging,
)
from runmem.task_runner.forking import exit_at_once
from runmem.task_runner.isolation import Ended, copier, run_limited
from runmem.task_runner.target_task import TargetTask
from runmem.worker.call_recorder import RunOnWorkers, WorkerRun, worker_runs

__all__ = ["INDEX", "PoolWork", "TargetProcess", "TargetReport"]

INDEX = struct.Struct("=I")
"""How the index of the next target stands on the connection."""

TargetReport = tuple[int, Ended | RunmemError, list[tuple[str, str]]]
"""Index of a target, how it ended, and what was not measured (place, what)."""


class PoolWork(NamedTuple):
    """What a pool is to do.

    Attributes
    ----------
    task : TargetTask
        The task that the records name.
    targets : sequence of (data id, target)
        As `packed_arguments` returns them. The record of the first has number 1.
    processes : int
        How many targets may run at the same time.
    limit_s, deadline_s : float or None
        See `run_target`.
    run : RunOnWorkers
        The run that records the targets.
    memory_limit_bytes : int or None
        What a target process may use. Stands in the records; holds for targets that are not isolated.
    report_death : callable
        Takes a process id and why that process died, for the record of its target.
    """

    task: TargetTask
    targets: Sequence[tuple[str, bytes]]
    processes: int
    limit_s: float | None
    deadline_s: float | None
    run: RunOnWorkers
    memory_limit_bytes: int | None
    report_death: Callable[[int, str], None]


class TargetProcess:
    """Runs one target after the other, as a worker does."""

    def __init__(self, work: PoolWork, connection: socket.socket) -> None:
        self._work = work
        self._connection = connection
        self._identity = messages.identity(connection.fileno())
        self._losses: list[tuple[str, str]] = []

    def serve(self) -> None:
        """Run targets until there are no more."""
        if not self._work.task.isolate:
            _pass_for_worker()
        run = self._join_run()
        failure: RunmemError | None = None
        try:
            run_one, end = self._runner()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failure = RunmemError(f"the task cannot be loaded in a process forked from the program: {reason}.")
        while data := self._connection.recv(INDEX.size):
            (index,) = INDEX.unpack(data)
            ended = self._run_target(run, index, run_one) if failure is None else failure
            losses, self._losses = self._losses, []
            report: TargetReport = index, ended, losses
            messages.send(self._connection.fileno(), pickle.dumps(report))
        if failure is None:
            end()
        if run is not None:
            run.close()

    def _join_run(self) -> WorkerRun | None:
        """Join the run. A process that cannot measure runs targets all the same."""

        def note_loss(message: dict[str, Any]) -> None:
            if "lost" in message:
                self._losses.append((message["place"], message["lost"]))

        work = self._work
        try:
            run = WorkerRun(work.run, work.memory_limit_bytes, note_loss, samples=False)
        except Exception as error:
            place = f"process {os.getpid()} on node {node_name()}"
            self._losses.append((place, f"the memory of its targets was not measured: {error}"))
            return None
        worker_runs[work.run.run_id] = run
        set_report_sink(run.report)
        return run

    def _runner(self) -> tuple[Callable[[bytes, float | None], Outcome], Callable[[], None]]:
        """Return what runs a target, and what ends that."""
        correct_lsst_timer()
        setup: ServerSetup = pickle.loads(self._work.task.setup)
        set_logging(setup.log_levels)
        runner = setup.load_runner()
        if not self._work.task.isolate:
            make_runner = copier(runner)

            def run_here(target: bytes, _: float | None) -> Outcome:
                outcome = call_runner(make_runner(), pickle.loads(target))
                self._check_connection()
                return outcome

            return run_here, lambda: None
        children = Children(self._connection, runner)

        def run_in_child(target: bytes, timeout_s: float | None) -> Outcome:
            try:
                return children.run(target, timeout_s)
            except EOFError:  # the dispatcher has ended it: its record says so, not this process
                os._exit(1)

        return run_in_child, children.end

    def _run_target(
        self, run: WorkerRun | None, index: int, run_one: Callable[[bytes, float | None], Outcome]
    ) -> Ended:
        data_id, target = self._work.targets[index]

        def body() -> Ended:
            return run_limited(run_one, self._work.limit_s, self._work.deadline_s, target)

        if run is None or not run.measures:
            return body()
        run.began(index + 1)
        ended: Ended = run.measured(index + 1, self._work.task.named(data_id), True, body)
        run.bundle_ended()
        return ended

    def _check_connection(self) -> None:
        """End this process, before its target is recorded as finished, if the target has closed its connection."""
        with suppress(OSError):
            if messages.identity(self._connection.fileno()) == self._identity:
                return
        with suppress(OSError):
            print("runmem: a target has closed all files of its process, which ends with it", file=sys.stderr)
        exit_at_once(1)


def _pass_for_worker() -> None:
    """Count as a worker, in which a TaskRunner starts no further processes; end with the parent process."""
    import multiprocessing

    from runmem.clusters.child_imports import WORKER_NAME

    multiprocessing.current_process().name = f"{WORKER_NAME} (forked)"
    die_with_parent()()
