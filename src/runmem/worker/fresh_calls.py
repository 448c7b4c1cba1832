"""Prepares a process for the calls of a run, and runs each in a process forked from that."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, TypeVar

from runmem.clusters.child_imports import WORKER_NAME, is_embedded_worker
from runmem.graph.task import TaskFunction
from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.profile_report import ProfileReport, set_job_name, set_report_sink
from runmem.memory.profiled_call import measure_peaks_of_lines
from runmem.shadowed import shadow
from runmem.store.node_name import node_name
from runmem.worker.call_captures import files_in_spool, import_memray, recording
from runmem.worker.call_runner import run_call
from runmem.worker.isolation.fresh_process import Measured
from runmem.worker.isolation.isolated_calls import CallReport
from runmem.worker.loaded_tasks import prepare_task
from runmem.worker.log_levels import LogLevels
from runmem.worker.packed_call import PackedCall, PackedTask
from runmem.worker.process_state import follow
from runmem.worker.run_on_workers import RunOnWorkers
from runmem.worker.task_logging import TaskLogging

__all__ = ["CallPreparation", "prepare_process"]

Result = TypeVar("Result")


def prepare_process(run: RunOnWorkers, is_embedded: bool) -> None:
    """Make this process one in which the program's tasks find what they expect."""
    if is_embedded:  # else it would be that of the worker, not the platform's
        multiprocessing.set_start_method(None, force=True)
        run.main.import_in_children()
    shadow(run.shadowing)
    for path in reversed(run.import_paths):
        if path not in sys.path and Path(path).is_dir():
            sys.path.insert(0, path)
    for place in run.prepare:
        module, _, function = place.partition(":")
        getattr(import_module(module), function)()


class CallPreparation(NamedTuple):
    """Makes a process ready for calls of a run, see `Preparation`.

    Attributes
    ----------
    run_on_workers : RunOnWorkers
    logs : str
        File for what is logged.
    is_embedded : bool
        Whether the worker was started by the program.
    follows : bool
        Whether tasks follow the state of the program's process.
    """

    run_on_workers: RunOnWorkers
    logs: str
    is_embedded: bool
    follows: bool

    def begin(self) -> None:
        """Make the process ready for calls of any task."""
        prepare_process(self.run_on_workers, self.is_embedded)
        measure_peaks_of_lines(self.run_on_workers.profile_peak)
        import_memray(self.run_on_workers.memray)
        if self.is_embedded:
            multiprocessing.current_process().name = f"{WORKER_NAME} (isolated calls)"
        if self.follows:
            follow(not is_embedded_worker(), self.run_on_workers.import_paths)
        if self.run_on_workers.measures:
            correct_lsst_timer()

    def load(self, task: bytes) -> None:
        """Make the process ready for calls of a task, a pickled `PackedTask`."""
        prepare_task(pickle.loads(task))

    def run(self, call: bytes) -> CallReport:
        """Run a call, given as the pickle of task, call and inputs, in a fresh process."""
        task: PackedTask
        packed_call: PackedCall
        recorder = _FreshCallRecorder(self.run_on_workers, Path(self.logs))
        task, packed_call, kept = pickle.loads(call)
        good, result = run_call(recorder, packed_call, task, kept, ())
        recorder.logging.bundle_ended()
        if not good:
            recorder.fields |= {"status": "failed", "exception": result.text.partition(":")[0]}
        return CallReport(good, result, recorder.fields, recorder.profiles, recorder.has_logged)


def _spool_of(logs: Path) -> Path:
    """Return the folder with the file for what is logged; one for temporary files, if that is kept nowhere."""
    return Path(tempfile.gettempdir()) if str(logs) == os.devnull else logs.parent


class _FreshCallRecorder:
    """Measures the one call of a fresh process; the worker writes its record."""

    def __init__(self, run: RunOnWorkers, logs: Path) -> None:
        self.measures = run.measures
        self._memray = run.memray
        self.fields: dict[str, object] = {}
        self.profiles: list[ProfileReport] = []
        self.has_logged = False
        self.logging = TaskLogging(logs, node_name(), self._note_log)
        set_report_sink(self.profiles.append, files_in_spool(_spool_of(logs), node_name()))

    def _note_log(self) -> None:
        self.has_logged = True

    def limited(self, task_id: int, limit_s: float) -> AbstractContextManager[None]:
        """Return an empty block: who has started this process ends it when the time is up."""
        return nullcontext()

    def began(self, task_id: int, name: str, levels: LogLevels | None, parent_id: int = 0) -> None:
        """Note which task runs, for what it logs and for its profiles."""
        set_job_name(f"task {task_id}")
        self.logging.began(task_id, name, levels)

    def measured(
        self,
        task_id: int,
        task: TaskFunction,
        last: bool,
        body: Callable[[], Result],
        argument_bytes: dict[str, int] | None = None,
    ) -> Result:
        """Run `body`, and measure it."""
        with Measured(self.fields):
            return body()

    def recording(self, task: TaskFunction, body: Callable[[], Result]) -> Callable[[], Result]:
        """Return what runs the call of a task, and records its allocations if ``--memray`` names it."""
        return recording(self._memray, task, body)

    def ended(self, name: str, elapsed_s: float, result: object) -> None:
        """Do nothing: the worker notes how long the call took."""
