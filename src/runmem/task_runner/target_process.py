"""A process of the local pool, which runs one target after the other."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from runmem.clusters.child_imports import WORKER_NAME
from runmem.errors import RunmemError
from runmem.graph.isolation import Isolation
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.profile_report import set_report_sink
from runmem.store.node_name import node_name
from runmem.task_runner.target_outcome import TargetOutcome, run_target
from runmem.task_runner.target_task import TargetTask, copies_of
from runmem.worker.call_recorder import WorkerRun
from runmem.worker.isolation import messages
from runmem.worker.isolation.fresh_process import FreshProcesses, Measured
from runmem.worker.probe import Probe
from runmem.worker.record_fields import set_record_fields
from runmem.worker.run_on_workers import RunOnWorkers

__all__ = ["INDEX", "PoolWork", "TargetProcess", "TargetReport"]

INDEX = struct.Struct("=I")
"""Form of the index of the next target on the connection."""

TargetReport = tuple[int, TargetOutcome | RunmemError, list[tuple[str, str]]]
"""Index of a target, how it ended, and what was not measured (place, what)."""


class PoolWork(NamedTuple):
    """The work of a pool.

    Attributes
    ----------
    task : TargetTask
        The task that the records name.
    targets : sequence of (data id, target)
        As `packed_arguments` returns them. The record of the first has number 1.
    processes : int
        How many targets may run at the same time.
    run : RunOnWorkers
        The run that records the targets.
    memory_limit_bytes : int or None
        Memory that a target process may use. Written to the records; enforced for targets that are not isolated.
    report_death : callable
        Takes a process id and why that process died, for the record of its target.
    """

    task: TargetTask
    targets: Sequence[tuple[str, bytes]]
    processes: int
    run: RunOnWorkers
    memory_limit_bytes: int | None
    report_death: Callable[[int, str], None]

    @property
    def is_isolated(self) -> bool:
        """Whether each target has a fresh process."""
        isolation: Isolation = self.task.isolation
        return isolation.fresh_process


class TargetProcess:
    """Runs one target after the other, in processes that it forks, and records them as a worker does."""

    def __init__(self, work: PoolWork, connection: socket.socket) -> None:
        self._work = work
        self._connection = connection
        self._losses: list[tuple[str, str]] = []

    def serve(self) -> None:
        """Run targets until there are no more."""
        multiprocessing.current_process().name = f"{WORKER_NAME} (forked)"  # TaskRunners in targets start no processes
        run = self._join_run()
        processes: FreshProcesses | None = None
        failure = RunmemError()
        try:
            processes = self._prepared(run)
        except RunmemError as error:
            failure = error
        while data := self._connection.recv(INDEX.size):
            (index,) = INDEX.unpack(data)
            outcome = failure if processes is None else self._recorded(run, index, processes)
            losses, self._losses = self._losses, []
            report: TargetReport = index, outcome, losses
            messages.send(self._connection, pickle.dumps(report))
        if processes is not None:
            processes.close()
        if run is not None:
            run.close()

    def _prepared(self, run: WorkerRun | None) -> FreshProcesses:
        """Load the runner; return what runs targets. Raises RunmemError if it cannot be loaded."""
        work = self._work
        if work.is_isolated:
            return FreshProcesses(self._connection, self._load(run))
        return FreshProcesses(
            self._connection, self._load(run), reuses=True, memory_limit_bytes=work.memory_limit_bytes
        )

    def _join_run(self) -> WorkerRun | None:
        """Join the run. A process that cannot measure runs targets all the same."""

        def note_loss(message: dict[str, Any]) -> None:
            if "lost" in message:
                self._losses.append((message["place"], message["lost"]))

        work = self._work
        try:
            run = WorkerRun(
                work.run, work.memory_limit_bytes, note_loss, samples=False, probe=Probe(), forks_calls=True
            )
        except Exception as error:
            place = f"process {os.getpid()} on node {node_name()}"
            self._losses.append((place, f"the memory of its targets was not measured: {error}"))
            return None
        set_report_sink(run.report, run.captures)
        return run

    def _load(self, run: WorkerRun | None) -> Callable[[bytes], tuple[TargetOutcome, dict[str, object]]]:
        """Load the runner; return the function that runs a target in a forked process."""
        correct_lsst_timer()
        packed = self._work.task.packed
        logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s: %(message)s")
        for name, level in packed.log_levels.items():
            logging.getLogger(name or None).setLevel(level)
        runner = packed.load()
        runner_of_next = (lambda: runner) if self._work.is_isolated else copies_of(runner)

        def run_measured(call: bytes) -> tuple[TargetOutcome, dict[str, object]]:
            if run is not None:  # its profiles name the target
                run.began(INDEX.unpack_from(call)[0] + 1)
            fields: dict[str, object] = {}
            with Measured(fields):
                outcome = run_target(runner_of_next(), call[INDEX.size :])
            return outcome, fields

        return run_measured

    def _recorded(self, run: WorkerRun | None, index: int, processes: FreshProcesses) -> TargetOutcome:
        """Run a target, and write its record."""
        data_id, target = self._work.targets[index]
        if run is None or not run.measures:
            return self._outcome(index, target, processes, None)
        run.began(index + 1)
        outcome: TargetOutcome = run.measured(
            index + 1, self._work.task.named(data_id), True, lambda: self._outcome(index, target, processes, run)
        )
        run.bundle_ended()
        return outcome

    def _outcome(self, index: int, target: bytes, processes: FreshProcesses, run: WorkerRun | None) -> TargetOutcome:
        ended = processes.run(INDEX.pack(index) + target, self._work.task.isolation.limit_s)
        if ended.result is None and run is not None:
            from runmem.worker.isolation.isolated_calls import with_neighbours  # here, because few pools need it

            ended = with_neighbours(ended, run.spool)
        fields = ended.fields
        if ended.result is None:
            outcome = TargetOutcome(node_name(), ended.pid, killed=ended.cause, timed_out=ended.timed_out)
        else:
            outcome, fields = pickle.loads(ended.result)
        set_record_fields(**fields, target_pid=ended.pid)
        return outcome
