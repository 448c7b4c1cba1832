"""A process of the local pool that runs one target after the other, and records them as a worker does."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from runmem.clusters.spawning import WORKER_NAME
from runmem.errors import RunmemError
from runmem.graph.isolation import Isolation
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.profile_report import set_report_sink
from runmem.store.node_name import node_name
from runmem.task_runner.target_outcome import TargetOutcome, run_target
from runmem.task_runner.target_task import TargetTask, copies_of
from runmem.worker.call_recorder import RunOnWorkers, WorkerRun, worker_runs
from runmem.worker.isolation import messages
from runmem.worker.isolation.forked_process import exit_now
from runmem.worker.isolation.fresh_process import FreshProcesses, measured
from runmem.worker.record_fields import set_record_fields, take_record_fields

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
        Memory that a target process may use. Stands in the records; holds for targets that are not isolated.
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
    """Runs one target after the other, as a worker does."""

    def __init__(self, work: PoolWork, connection: socket.socket) -> None:
        self._work = work
        self._connection = connection
        self._identity = messages.identity(connection)
        self._losses: list[tuple[str, str]] = []
        self._fresh: FreshProcesses | None = None

    def serve(self) -> None:
        """Run targets until there are no more."""
        if not self._work.is_isolated:  # a TaskRunner in a target starts no further processes
            multiprocessing.current_process().name = f"{WORKER_NAME} (forked)"
        run = self._join_run()
        failure: RunmemError | None = None
        try:
            run_one = self._load()
        except RunmemError as error:
            failure = error
        while data := self._connection.recv(INDEX.size):
            (index,) = INDEX.unpack(data)
            outcome = self._run_target(run, index, run_one) if failure is None else failure
            losses, self._losses = self._losses, []
            report: TargetReport = index, outcome, losses
            messages.send(self._connection, pickle.dumps(report))
        if self._fresh is not None:
            self._fresh.close()
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

    def _load(self) -> Callable[[bytes], TargetOutcome]:
        """Load the runner; return the function that runs a target. Raises RunmemError."""
        correct_lsst_timer()
        packed = self._work.task.packed
        logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s: %(message)s")
        for name, level in packed.log_levels.items():
            logging.getLogger(name or None).setLevel(level)
        runner = packed.load()
        if not self._work.is_isolated:
            make_runner = copies_of(runner)
            return lambda target: self._checked(run_target(make_runner(), target))

        def run_measured(target: bytes) -> tuple[TargetOutcome, dict[str, object]]:
            outcome, fields = measured(lambda: run_target(runner, target))
            return outcome, fields | take_record_fields()

        self._fresh = FreshProcesses(self._connection, run_measured)
        return self._run_apart

    def _run_apart(self, target: bytes) -> TargetOutcome:
        """Run a target in a fresh process."""
        assert self._fresh is not None
        try:
            ended = self._fresh.run(target, self._work.task.isolation.limit_s)
        except EOFError:  # the dispatcher has ended it: its record says so, not this process
            os._exit(1)
        fields = ended.fields
        if ended.result is None:
            outcome = TargetOutcome(node_name(), ended.pid, killed=ended.cause, timed_out=ended.timed_out)
        else:
            outcome, fields = pickle.loads(ended.result)
        set_record_fields(**fields, target_pid=ended.pid)
        return outcome

    def _run_target(
        self, run: WorkerRun | None, index: int, run_one: Callable[[bytes], TargetOutcome]
    ) -> TargetOutcome:
        data_id, target = self._work.targets[index]
        if run is None or not run.measures:
            return run_one(target)
        run.began(index + 1)
        outcome: TargetOutcome = run.measured(index + 1, self._work.task.named(data_id), True, lambda: run_one(target))
        run.bundle_ended()
        return outcome

    def _checked(self, outcome: TargetOutcome) -> TargetOutcome:
        """End this process, before its target is recorded as finished, if the target has closed its connection."""
        with suppress(OSError):
            if messages.identity(self._connection) == self._identity:
                return outcome
        with suppress(OSError):
            print("runmem: a target has closed all files of its process, which ends with it", file=sys.stderr)
        exit_now(1)
