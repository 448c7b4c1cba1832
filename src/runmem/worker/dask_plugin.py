"""What joins a Dask worker process to a run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

import runmem.serialization.dask_serialization  # noqa: F401  # registers with Dask
from runmem.clusters.child_imports import is_embedded_worker
from runmem.collection.spool_reader import read_last
from runmem.dask_private import report_level, report_receiving, worker_memory_limit
from runmem.graph.current import current_program
from runmem.memory.allocator import use_one_arena
from runmem.memory.limits import memory_limit
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.peak import process_meter
from runmem.memory.profile import set_report_sink
from runmem.memory.stored_data import stored_data
from runmem.shadowed import stop_shadowing
from runmem.store.node_name import node_name
from runmem.worker.bundle_runner import isolated_calls
from runmem.worker.call_recorder import WorkerRun, worker_runs
from runmem.worker.fresh_calls import CallPreparation, prepare_process
from runmem.worker.isolation.isolated_calls import IsolatedCalls
from runmem.worker.isolation.time_limit import NoTimeLimits, TimeLimits
from runmem.worker.memory_events import WorkerMemoryEvents
from runmem.worker.nesting import nestings
from runmem.worker.node_turns import NodeTurns
from runmem.worker.process_state import follow, follow_no_more
from runmem.worker.run_on_workers import RunOnWorkers, stats_topic
from runmem.worker.running_calls import RunningCalls
from runmem.worker.task_logging import TaskLogging
from runmem.worker.task_output import keep_printing

__all__ = ["RunmemWorker"]

log = logging.getLogger(__name__)


class RunmemWorker(WorkerPlugin):  # type: ignore[misc]
    """Joins a Dask worker to a run; Dask also gives it to workers that come later."""

    def __init__(self, run: RunOnWorkers) -> None:
        self.name = f"runmem-{run.run_id}"
        self._run = run
        self._memory_events: WorkerMemoryEvents | None = None

    def setup(self, worker: Any) -> None:
        """Join. A worker that cannot measure runs tasks all the same."""
        self._prepare(worker)
        run = self._join(worker)
        logs = os.devnull if run is None else str(run.spool.logs(os.getpid()))
        alone = self._run._replace(nesting=None)  # fresh processes are not part of the cluster
        preparation = CallPreparation(alone, logs, is_embedded_worker(), worker.state.nthreads == 1)
        if self._run.nesting is not None:
            nestings[self._run.run_id] = self._run.nesting
        isolated_calls[self._run.run_id] = IsolatedCalls(self._run.run_id, preparation, run)

    def _join(self, worker: Any) -> WorkerRun | None:
        if worker.state.nthreads == 1:
            follow(not is_embedded_worker(), self._run.import_paths)
        limits = [limit for limit in (worker_memory_limit(worker), memory_limit().limit_bytes) if limit]
        topic = stats_topic(self._run.run_id)
        if worker.nanny is None:
            time_limits: Callable[[Path, Path], TimeLimits] = NoTimeLimits
        else:
            time_limits = partial(TimeLimits, later=worker.loop.add_callback)
        try:
            run = WorkerRun(
                self._run,
                min(limits, default=None),
                lambda message: worker.log_event(topic, message),
                limits=time_limits,
            )
        except Exception as error:
            log.warning("this worker cannot measure memory for run %s: %s", self._run.run_id, error)
            place = f"worker process {os.getpid()} on node {node_name()}"
            worker.log_event(topic, {"place": place, "lost": f"the memory of its tasks was not measured: {error}"})
            return None
        if run.measures:
            correct_lsst_timer()
            use_one_arena()
            process_meter().watch_this_thread()  # Dask's: it receives inputs, and reads what was spilled
            report_receiving(stored_data())
            self._memory_events = WorkerMemoryEvents(worker, run.write_trace, run.now)
            if self._run.memory_aware:
                report_level(worker, process_meter().level_bytes)
        self._note_calls(run, worker.address)
        logs = run.spool.logs(os.getpid())
        run.task_logging = TaskLogging(logs, run.node, lambda: worker.log_event(topic, {"logged": run.node}))
        worker_runs[self._run.run_id] = run
        set_report_sink(run.report, run.captures)
        return run

    def _note_calls(self, run: WorkerRun, address: str) -> None:
        """Note what runs, and let calls run alone on the node where that is asked for."""
        if self._run.run_id in worker_runs:  # another worker of the cluster is in the same process, and has done so
            return
        try:
            run.running_calls = RunningCalls(run.spool.running(os.getpid()), address)
            run.node_turns = NodeTurns(run.spool.root)
        except OSError as error:
            log.warning(
                "calls of run %s that are to run alone on node %s do not: %s", self._run.run_id, run.node, error
            )

    def _prepare(self, worker: Any) -> None:
        """Make this process one in which the program's tasks find what they expect."""
        if current_program() is None:  # not in the program's own process
            keep_printing()
        if self._run.quiet:
            for name in ("distributed.worker", "distributed.protocol.pickle", "distributed.protocol.core"):
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        if self._run.quiet and worker.local_directory in sys.path:
            sys.path.remove(worker.local_directory)
        prepare_process(self._run, is_embedded_worker())

    def teardown(self, worker: Any) -> None:
        """Leave: the run has ended, or the worker ends."""
        if self._memory_events is not None:
            self._memory_events.close()
        follow_no_more()
        report_level(worker, None)
        stop_shadowing()
        nestings.pop(self._run.run_id, None)
        if (isolated := isolated_calls.pop(self._run.run_id, None)) is not None:
            isolated.close()
        run = worker_runs.pop(self._run.run_id, None)
        if run is not None:
            set_report_sink(None)
            run.close()
            self._send_last_news(run, worker)

    def _send_last_news(self, run: WorkerRun, worker: Any) -> None:
        """Send what the master has not read yet of a node that nobody is left on whom it could ask."""
        if run.node == self._run.host:
            return  # it reads the spool itself
        try:
            if (news := read_last(self._run.run_id)) is not None:
                files = {name: list(piece) for name, piece in news.files.items()}
                worker.log_event(stats_topic(self._run.run_id), {"left": news.node, "files": files, "more": news.more})
        except Exception as error:  # the master reports from when on it has nothing
            log.warning("the last measurements of node %s stay there: %s", run.node, error)
