"""Records the calls of one run in the process that runs them: a line when each begins, one with all values at its end.

::

    thread 1 ─> measured: begin, probes, call, probes, end ─┬─ one write a line ─> tasks-<pid>.jsonl
    thread 2 ─> measured: ...                               └─ brackets ─────────> <node>.dat
      state of each thread: `_Current`
    all threads ─> CallStatistics, Losses ─> notify ─> master      ProfileReports ─> profiles-<pid>.jsonl
    end of the run ─> stop: no other call begins, and nothing more is written

Works without Dask, so that a process that has not imported it can run calls.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runmem.extensions import make_extensions
from runmem.formats.brackets import BracketBudget
from runmem.formats.mprof_lines import func_line
from runmem.formats.totals import total_at
from runmem.graph.task import TaskFunction
from runmem.memory.limits import slurm_limits
from runmem.memory.profile_report import ProfileReport, set_job_name
from runmem.memory.profiled_call import measure_peaks_of_lines
from runmem.node.clock import clock_of
from runmem.node.members import join, leave
from runmem.serialization.error_parts import class_name
from runmem.store.append import LineAppender
from runmem.store.batch_job import note_own_job
from runmem.store.layout import Spool, safe_name, worker_series
from runmem.store.line_writer import LineWriter, NamedTask
from runmem.store.node_name import node_name
from runmem.worker.call_captures import files_in_spool, import_memray, recording
from runmem.worker.call_statistics import CallStatistics, need_of
from runmem.worker.children_probe import ChildrenProbe, children_fields
from runmem.worker.isolation.time_limit import TimeLimits
from runmem.worker.losses import Losses
from runmem.worker.memory_errors import note_facts
from runmem.worker.probe import PeakProbe, Probe, Probes
from runmem.worker.profile_reports import ProfileReports
from runmem.worker.record_fields import take_record_fields
from runmem.worker.run_on_workers import RunOnWorkers

if TYPE_CHECKING:  # a process without Dask has no such thing
    from runmem.worker.log_levels import LogLevels
    from runmem.worker.node_turns import NodeTurns
    from runmem.worker.running_calls import RunningCalls
    from runmem.worker.task_logging import TaskLogging

__all__ = ["CallInProgress", "WorkerRun", "stop_calls", "stopped_runs", "worker_runs"]

Result = TypeVar("Result")

_BRACKETS_A_NODE = 12  # the legend of `mprof plot` has room for 26 lines, of workers and of record tasks too
_TOTAL_INTERVAL_S = 1.0
_OWN = ("increment_bytes", "increment_unclear", "held_bytes")


class CallInProgress:
    """State of a call that is being measured."""

    def __init__(self) -> None:
        self.thread = threading.get_native_id()
        self.parent_id = 0
        self.states: list[Any] | None = None
        self.since: tuple[float, float] = 0.0, 0.0  # wall and processor seconds at which `states` began


class _Current(threading.local, CallInProgress):
    """State of a thread: its task, and the probes that go on with the next call of its bundle."""

    def __init__(self) -> None:
        CallInProgress.__init__(self)
        self.task_id: int | None = None
        self.need: tuple[int, int] | None = None  # memory of the last call, see `need_of`
        self.body_s: float | None = None  # seconds of the last call alone, without what measuring it took


class WorkerRun:
    """One run in this process.

    Parameters
    ----------
    run : RunOnWorkers
    limit_bytes : int or None
        What the process may use; written to the records.
    notify : callable
        Sends a message to the master: how long calls last, what was lost.
    samples : bool
        Whether to see to it that the node is sampled; else somebody else has.
    trace : str, optional
        Name of the trace in which the process is sampled already; default that of the node, which it joins.
    limits : callable
        Makes the time limits of its calls, given their files.
    probe : Probe, optional
        Measures the peak; default: that of this process.
    forks_calls : bool
        Whether its calls run in processes forked from this one.

    Attributes
    ----------
    now : callable
        Returns the time of the run on this node, in seconds since the epoch.
    stopped : bool
        Whether the run has ended, and no other call is to begin.
    running_calls : RunningCalls or None
        Where calls are noted while they run; None where nobody would read it.
    node_turns : NodeTurns or None
        When calls may run beside others on the node; None: at any time.
    """

    def __init__(
        self,
        run: RunOnWorkers,
        limit_bytes: int | None,
        notify: Callable[[dict[str, object]], None],
        samples: bool = True,
        trace: str | None = None,
        limits: Callable[[Path, Path], TimeLimits] = TimeLimits,
        probe: Probe | None = None,
        forks_calls: bool = False,
    ) -> None:
        self.measures = run.measures
        self.node = node_name()
        self._run = run
        self.spool = Spool(Path(run.spool)) if run.host == self.node else Spool.of_run(run.run_id)
        self.spool.make()
        self._losses = Losses(self.node, notify)
        self._statistics = CallStatistics(notify)
        self._reports = ProfileReports(self.spool, self.node, self._losses)
        self.now = clock_of(self.spool.root)
        measure_peaks_of_lines(run.profile_peak)
        self._limits_are_lost = False
        self._limits = limits(self.spool.limits(os.getpid()), self.spool.stacks(os.getpid()))
        self.task_logging: TaskLogging | None = None
        self.running_calls: RunningCalls | None = None
        self.node_turns: NodeTurns | None = None
        children = ChildrenProbe(self.spool.sampled(os.getpid())) if run.measures else None
        self._probes = Probes(probe or PeakProbe(run.malloc_trim), self._probes_of_the_user(), children)
        self.captures = files_in_spool(self.spool.root, self.node)
        import_memray(run.memray)
        self._current = _Current()
        self._total_read_s = 0.0
        self._height: int | None = None
        self._busy: set[int] = set()  # threads that are at a bundle
        self.stopped = False
        if run.measures:
            self._joined = trace is None
            trace = trace or safe_name(self.node) + ".dat"
            self._writer = LineWriter(self.node, limit_bytes, os.getpid(), run.folder)
            self._lines = LineAppender(self.spool.tasks(os.getpid()))
            self._trace = LineAppender(self.spool.file(trace))
            self._brackets = BracketBudget(max(1, _BRACKETS_A_NODE // max(1, run.workers_a_node)), run.interval_s)
            if self._joined:
                series, what = worker_series(os.getpid()), f"{run.app} on {self.node}"
                join(self.spool.root, os.getpid(), trace, series, what, forks_calls=forks_calls, metric=run.metric)
                note_own_job(self.spool, min((each.limit_bytes for each in slurm_limits(os.environ)), default=None))
            if samples:
                from runmem.node.launch import ensure_sampler

                ensure_sampler(self.spool.root, run.interval_s)

    def _probes_of_the_user(self) -> list[Probe]:
        if not (self._run.probes and self.measures):
            return []
        try:
            return make_extensions(pickle.loads(self._run.probes), Probe, "--probes")
        except Exception as error:
            self._losses.report(str(error))
            return []

    def write_trace(self, lines: bytes) -> None:
        """Append whole lines to the trace of the node."""
        if self.measures:
            self._trace.write(lines)

    def set_limit(self, limit_bytes: int | None) -> None:
        """Write another limit to the records from now on."""
        if self.measures:
            self._writer = LineWriter(self.node, limit_bytes, os.getpid(), self._run.folder)

    def stop(self) -> None:
        """Begin no other call, and write nothing about the one that runs: the run has ended."""
        self.stopped = True

    def close(self) -> None:
        """Leave the run: the process is sampled no longer and its files are closed.

        Not while a call is under way that the end of the process will cut off: it then counts as one that died.
        """
        if self.measures and not (self._busy and not self.stopped):
            if self._joined:
                leave(self.spool.root, os.getpid())
            self._lines.close()
            self._trace.close()
        self._reports.close()
        if self.task_logging is not None:
            self.task_logging.close()

    def limited(self, task_id: int, limit_s: float) -> AbstractContextManager[None]:
        """Return a block in which a call may take so many seconds; without a limit, if that cannot be written."""
        try:
            return self._limits.limited(task_id, limit_s)
        except OSError as error:
            if self._limits_are_lost:
                return nullcontext()
            self._limits_are_lost = True
            self._losses.report(f"the time limits of its calls could not be set: {error}")
            return nullcontext()

    def began(self, task_id: int, name: str = "", levels: LogLevels | None = None, parent_id: int = 0) -> None:
        """Note which task this thread runs, for its `@profile` reports and for what it logs.

        `parent_id`: number of the call that has made this one; 0: the program has made it.
        """
        self._current.task_id, self._current.parent_id = task_id, parent_id
        set_job_name(f"task {task_id}")
        if self.task_logging is not None:
            self.task_logging.began(task_id, name, levels)

    def measured(
        self,
        task_id: int,
        task: NamedTask,
        last: bool,
        body: Callable[[], Result],
        argument_bytes: dict[str, int] | None = None,
    ) -> Result:
        """Run `body`, the call of a task, with the probes around it and a line before and after.

        Parameters
        ----------
        last : bool
            Whether the call is the last of its bundle. Else the probes go on with the one that follows.
        argument_bytes : dict, optional
            Sizes of its arguments, for the record if its process dies.
        """
        current = self._current
        self._begin(current, task_id, task, argument_bytes)
        began = time.perf_counter()
        try:
            result = body()
        except BaseException as error:
            current.body_s = time.perf_counter() - began
            self._end(current, task_id, task, last, "failed", error)
            raise
        current.body_s = time.perf_counter() - began
        self._end(current, task_id, task, last)
        return result

    def begin(self, task_id: int, task: NamedTask) -> CallInProgress:
        """Begin to measure a call by itself, which `end` ends: no bundle, and others may be under way in its thread."""
        current = CallInProgress()
        self._begin(current, task_id, task)
        return current

    def end(self, current: CallInProgress, task_id: int, task: NamedTask, error: BaseException | None = None) -> None:
        """End the measuring of a call, which raised `error`; no line is written once the run has ended."""
        if self.stopped:
            self._probes.stop(current.states or [None])
            return
        try:
            status = "finished" if error is None else "failed"
            self._end(current, task_id, task, True, status, error)
        finally:
            self._busy.discard(current.thread)
            self._report_lost_lines()

    def _begin(
        self, current: CallInProgress, task_id: int, task: NamedTask, argument_bytes: dict[str, int] | None = None
    ) -> None:
        """Write that a call begins; if no other ended just now, begin to measure too."""
        self._busy.add(current.thread)
        take_record_fields()  # of a call in a run that measures nothing
        if current.states is None:
            current.states, current.since = self._probes.start(), (self.now(), time.thread_time())
        start_s = current.since[0]
        if start_s - self._total_read_s > _TOTAL_INTERVAL_S:
            # The node's total now: when the task has ended, the trace here may go back less far.
            self._total_read_s, self._height = start_s, total_at(self._trace.path, start_s)
        base = getattr(current.states[0], "base_bytes", None)
        writer, parent = self._writer, current.parent_id
        self._write(writer.start(task, task_id, current.thread, start_s, base, parent, argument_bytes))

    def _end(
        self,
        current: CallInProgress,
        task_id: int,
        task: NamedTask,
        last: bool,
        status: str = "finished",
        error: BaseException | None = None,
    ) -> None:
        """Measure a call that has ended, with `error` if it raised one, and write its line."""
        exception = None if error is None else class_name(error)
        start_s, start_cpu_s = current.since
        end_s, end_cpu_s = current.since = self.now(), time.thread_time()
        cpu_s = end_cpu_s - start_cpu_s
        states, current.states = current.states, None
        assert states is not None
        if last:
            values = self._probes.stop(states)
        else:
            values, current.states = self._probes.next(states)
        if error is not None and (death := note_facts(error, self.spool)) is not None:
            values["death"] = asdict(death)
        if current.parent_id:
            values["parent_id"] = current.parent_id
        children = values.pop("children", None)
        own = take_record_fields()
        if children is not None:
            about_children = children_fields(children, own, values.get("lifetime_peak_bytes"), self._run.metric)
            if children.sampled.gpu_bytes is not None:
                values["gpu_peak_bytes"] = children.sampled.gpu_bytes
            values.update(reason=values.get("reason") or about_children.pop("reason", None), **about_children)
        if own:
            if "base_bytes" in own or "peak_bytes" in own:  # of another process, which stores nothing for others
                values = {name: value for name, value in values.items() if name not in _OWN}
            values = {**values, **own}
            status, exception = values.pop("status", status), values.pop("exception", exception)
            cpu_s = values.pop("cpu_s", cpu_s)
        if self._brackets.admits(end_s - start_s, values.get("peak_bytes")):
            self._bracket(task, start_s, end_s, self._height)
        if self._run.memory_aware and current is self._current:
            self._current.need = need_of(values)
        times = start_s, end_s, cpu_s
        self._write(self._writer.end(task, task_id, current.thread, times, status, exception, values))

    def _write(self, line: bytes) -> None:
        """Write a line about a call, unless the run has ended."""
        if not self.stopped:
            self._lines.write(line)

    def pause(self) -> None:
        """Measure nothing for the call of this thread until `go_on`: it waits for others, which may run here."""
        if (states := self._current.states) is not None:
            self._probes.pause(states)

    def go_on(self) -> None:
        """Measure again what the call of this thread takes."""
        if (states := self._current.states) is not None:
            self._probes.go_on(states)

    def bundle_ended(self) -> None:
        """Leave nothing open: a bundle has ended on this thread."""
        states, self._current.states = self._current.states, None
        self._busy.discard(self._current.thread)
        if states is not None:
            self._probes.stop(states)  # of a call that could not begin, because what it needs has failed
        if self.task_logging is not None:
            self.task_logging.bundle_ended()
        self._losses.report_output()
        self._report_lost_lines()

    def _report_lost_lines(self) -> None:
        if self.measures:
            self._losses.report_lines(self._lines)

    def _bracket(self, task: NamedTask, start_s: float, end_s: float, height: int | None) -> None:
        """Write the bracket of a task, at the height of the node's total: `mprof plot` draws it on that curve.

        `height` is that total at most a second before the start.
        """
        start, end = total_at(self._trace.path, start_s), total_at(self._trace.path, end_s)
        start = height if start is None else start
        if start is not None and end is not None:
            self._trace.write(func_line(f"{task.module}.{task.name}", start, start_s, end, end_s))

    def ended(self, name: str, elapsed_s: float, result: object) -> None:
        """Note a call that finished; report now and then how long calls of this name last.

        That is without measuring: as many calls travel together as where nothing is measured.
        """
        body_s, self._current.body_s = self._current.body_s, None
        elapsed_s = elapsed_s if body_s is None else body_s
        need, self._current.need = self._current.need, None
        self._statistics.ended(name, elapsed_s, result, need)

    def recording(self, task: TaskFunction, body: Callable[[], Result]) -> Callable[[], Result]:
        """Return what runs the call of a task, and records its allocations if ``--memray`` names it."""
        return recording(self._run.memray, task, body)

    def report(self, report: ProfileReport) -> None:
        """Write a `@profile` report, and the allocations that were recorded for it, to the spool."""
        self._reports.write(report, self._current.task_id)


stopped_runs: set[str] = set()
"""The runs that this process worked for and that begin no other call, by their id."""

worker_runs: dict[str, WorkerRun] = {}
"""The runs that this process works for, by their id."""


def stop_calls(run_id: str) -> None:
    """Begin no other call of a run in this process, since it has ended, and write nothing more about it."""
    stopped_runs.add(run_id)
    if (run := worker_runs.get(run_id)) is not None:
        run.stop()
