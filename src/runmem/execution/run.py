"""A run from its start to its end: run directory, master trace, cluster, submitter and collector."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from runmem.collection.observer import Observer
from runmem.dask_logging import import_dask
from runmem.events import ClusterStarted, RunEnded
from runmem.execution import streams
from runmem.execution.ending import CutOff, Steps, reason_of_end, status_of
from runmem.execution.lazy_submitter import LazySubmitter, RunSubmitter
from runmem.execution.prepared_run import PreparedRun
from runmem.execution.signals import delayed_signals
from runmem.execution.wall_clock import WallClock
from runmem.graph.current import set_current_program
from runmem.memory.limits import memory_limit
from runmem.memory.memray_capture import CaptureFiles
from runmem.memory.profile_report import set_own_captures
from runmem.memory.profiled_call import measure_peaks_of_lines
from runmem.node.launch import ensure_sampler
from runmem.settings import ON_MEMORY, Settings
from runmem.standard_error import say
from runmem.store.layout import Spool
from runmem.store.node_name import node_name
from runmem.worker.call_recorder import WorkerRun
from runmem.worker.process_state import FollowedProcess

if TYPE_CHECKING:  # imported when they are used: processes that are forked after `prepare` begin sooner
    import distributed

    from runmem.collection.collector import Collector
    from runmem.collection.observer import Observers
    from runmem.execution.joining import JoinedCluster
    from runmem.execution.nested_calls import NestedCalls
    from runmem.execution.recording import Recording
    from runmem.execution.run_services import MemoryAware

__all__ = ["Run"]


class Run(PreparedRun):
    """One execution of a program. Use as a context manager, or `start` and `finish`.

    Parameters: see `PreparedRun`.

    Attributes
    ----------
    own_calls : int
        Number of calls that processes of the caller have run or begun; set by the caller.
    submitter : LazySubmitter
    cut_off : CutOff or None
        After `finish`: the calls that the end of the program cut off; None if all had ended.

    Raises
    ------
    SettingError, ClusterError
        At `start`, before any work, if the run cannot take place.
    """

    def __init__(
        self,
        settings: Settings,
        app: str,
        command: Sequence[str],
        observers: Sequence[Observer] = (),
        prepare_workers: Sequence[str] = (),
        import_folder: str | None = None,
        probes: Sequence[object] = (),
    ) -> None:
        super().__init__(settings, app, command, observers, prepare_workers, import_folder, probes)
        self._connected: tuple[distributed.Client, int] | None = None
        self._connecting = threading.Lock()
        self._recording: Recording | None = None
        self.own_calls = 0
        self.submitter = LazySubmitter(self._make_submitter, self.bring_log)
        self._remote: JoinedCluster | None = None
        self._wall_clock: WallClock | None = None
        self.cut_off: CutOff | None = None

    # --- start --------------------------------------------------------------------------------------------------------

    @property
    def _recorded(self) -> Recording:
        """The recording of the run, made when it is first used."""
        if self._recording is None:
            from runmem.execution.recording import Recording

            self._recording = Recording(
                self.run_id, self.directory, self._trace_folder, self.settings, self._extra, self._write_run_json
            )
            self._write_run_json()
            Spool.of_run(self.run_id).remove_old_ones()
        return self._recording

    @property
    def observers(self) -> Observers:
        """All observers of the run."""
        return self._recorded.observers

    @property
    def collector(self) -> Collector:
        """The collector of the run."""
        return self._recorded.collector

    def start(self) -> Run:
        """Begin to measure, and send task calls to the cluster; `prepare` first, unless that was done."""
        was_prepared = self._prepared  # then processes may have been forked, whose records are kept
        if not was_prepared:
            self.prepare()
        try:
            self._begin()
        except BaseException:
            if not was_prepared:
                self._remove_all()
            raise
        return self

    def _begin(self) -> None:
        from runmem.graph.program import Program

        recorded = self._recorded
        if self.settings.wall_clock_limit_s is not None:
            self._wall_clock = WallClock(self.settings.wall_clock_limit_s)
        if self.settings.python_memory_profile:
            with suppress(OSError):  # as above
                ensure_sampler(Spool.of_run(self.run_id).root, self.settings.memory_interval_s)
        if not self._cluster.lazy:
            self._connect()
        self._process = FollowedProcess(is_followed=self._remote is None or not self._remote.several_threads)
        self.program = Program(self.submitter, lambda: self.directory.files)
        self.program.implicit_sync = self.settings.implicit_sync
        self.program.number_of_nodes = self._number_of_nodes
        streams.attach(self.run_id, None if self.settings.sequential else lambda: self._connect()[0])
        measure_peaks_of_lines(self.settings.profile_peak)
        set_own_captures(CaptureFiles(self.directory.profiles, ""))
        recorded.collector.start()
        set_current_program(self.program)

    def _number_of_nodes(self) -> int:
        if self.settings.sequential:
            return 1
        workers = self._connect()[0].scheduler_info(n_workers=-1)["workers"]
        return max(1, len({worker["host"] for worker in workers.values()}))

    def _make_submitter(self) -> RunSubmitter:
        copied = None if self.settings.inputs is None else self.settings.inputs == "copied"
        if self.settings.sequential:
            from runmem.execution.sequential import NestedInSequence, SequentialSubmitter

            nested = None
            if self.settings.nested:
                nested = NestedInSequence(lambda: str(self.directory.files), self.settings.implicit_sync)
            return SequentialSubmitter(self._join_itself, self.observers, copied, nested)
        with delayed_signals():  # Python may lose a KeyboardInterrupt in an import, or die of it
            import_dask()
            from runmem.execution.death_news import DeathNews
            from runmem.execution.run_services import RunServices
            from runmem.execution.submitter import DaskSubmitter

        services = RunServices(
            run_id=self.run_id,
            connect=self._connect,
            observers=self.observers,
            kill_of=self.collector.kill_of,
            running=self.collector.running,
            now=self._now,
            copied=copied,
            process=self._process,
            in_order=self._cluster.ours,
            limit_s=self.settings.task_timeout_s,
            memory=self._memory_aware(),
            largest_worker=self._largest_worker,
            on_memory=self.settings.on_memory or ON_MEMORY[0],
            deaths=DeathNews(
                self.collector, self.settings.python_memory_profile, self._cluster.ours, self._hears_of_deaths
            ),
        )
        submitter = DaskSubmitter(services)
        self._sender = submitter.sender
        return submitter

    def _memory_aware(self) -> MemoryAware | None:
        """Return how calls are placed by memory; None: only where they declare what they need."""
        if not self.settings.memory_aware:
            return None
        from runmem.execution.run_services import MemoryAware

        source = None if self.settings.memory_from is None else str(self.settings.memory_from)
        return MemoryAware(self._known_needs, source, self._cluster.shares_memory, self._cluster.taken_bytes)

    def _largest_worker(self) -> tuple[int, str] | None:
        """Return the memory limit of the largest worker, and its name; None: there is no limit, or no worker yet."""
        if (limit_bytes := self.worker_memory_bytes) is not None:
            return limit_bytes, "one of this machine"
        workers = self._connect()[0].scheduler_info(n_workers=-1)["workers"]
        limits = [(worker["memory_limit"] or 0, address) for address, worker in workers.items()]
        return max(limits) if limits and all(limit for limit, _ in limits) else None

    def _hears_of_deaths(self) -> bool:
        """Return True if Dask gives up calls at the first death of their worker."""
        return self._remote is not None and self._remote.gives_up_at_death

    def _connect(self) -> tuple[distributed.Client, int]:
        """Start or reach the cluster and join its workers to this run, once."""
        with self._connecting:
            if self._connected is None:
                import_dask()
                from runmem.execution.checks import check_recording
                from runmem.execution.joining import join_cluster

                client = self._cluster.connect()
                # Workers of this run, on this terminal, do not log failed tasks there.
                quiet = self._cluster.ours and self.settings.log_level == "off"
                run = self._on_workers()._replace(prepare=self.prepare_workers, quiet=quiet, nesting=self._nesting())
                self._remote = join_cluster(client, run, lambda: getattr(self, "_sender", None), self._import_folder)
                self._remote.check_names()
                check_recording(self.settings, self._remote.several_threads)
                self._connected = client, max(1, self._remote.workers())
                self.collector.add_remote(self._remote.read, self._remote.unsure)
                self._write_run_json()
                self.observers.cluster_started(ClusterStarted(self._cluster.dashboard(client), self._connected[1]))
            return self._connected

    def _nesting(self) -> NestedCalls | None:
        """Return what makes the calls of tasks inside tasks; None: they are plain calls."""
        if not self.settings.nested:
            return None
        from runmem.execution.nested_calls import NestedCalls

        return NestedCalls(self.run_id, str(self.directory.files), self.settings.implicit_sync)

    # --- calls that the caller runs itself ----------------------------------------------------------------------------

    @property
    def has_cluster(self) -> bool:
        """Whether the cluster has started."""
        return self._connected is not None

    @property
    def has_open_calls(self) -> bool:
        """Whether a call of the program has not ended."""
        return self.submitter.real is not None and self.submitter.real.has_open_calls

    def _join_itself(self) -> WorkerRun | None:
        """Make this process run the calls; without measurements, if these are not possible."""
        try:
            return WorkerRun(
                self.on_this_node(1), memory_limit().limit_bytes, lambda message: None, trace=self._trace_name
            )
        except Exception as error:
            self.report_lost(f"process {os.getpid()} on node {node_name()}", f"its tasks were not measured: {error}")
            return None

    def lost_output(self) -> str | None:
        """Describe the output of tasks for which their workers had no room; None: no loss is known."""
        from runmem.worker.task_output import describe_unwritten

        return None if self._remote is None else describe_unwritten([*self._remote.unwritten.values()])

    def report_lost(self, place: str, what: str) -> None:
        """Report that something was not measured."""
        self._recorded.report_loss(place, what)

    def bring_log(self) -> None:
        """Pass the log records of tasks that have ended to the program's handlers."""
        if self._remote is not None and self._remote.has_logged:
            self._remote.has_logged = False
            self.collector.collect()

    # --- end ----------------------------------------------------------------------------------------------------------

    def finish(self, exit_code: int | None, complete: bool | None = None, final: bool = False) -> list[BaseException]:
        """Wait for all tasks, collect, end what was started; return the errors that the program has not seen.

        Parameters
        ----------
        exit_code : int or None
            The program's, for the record.
        complete : bool, optional
            Whether tasks for which the program has not waited are completed, as plain Python would have run them before
            the end; default: if the exit code is 0. A program that crashed no longer needs them.
        final : bool
            Whether the process ends with the run. Signals that ask it to end are delayed once no task is waited for;
            `final`: for good.
        """
        complete = not exit_code if complete is None else complete
        from runmem.collection.replicas import remove_replicas
        from runmem.collection.spool_reader import end_spool
        from runmem.execution.flame_graphs import make_flame_graphs

        set_current_program(None)
        measure_peaks_of_lines(False)
        set_own_captures(None)
        recorded = self._recorded  # `start` may have failed before it was made
        submitter, step = self.submitter.real, Steps(self.report_lost)
        if self._wall_clock is not None:
            self._wall_clock.cancel()
        unseen: list[BaseException] = []
        all_ended = submitter is None or not submitter.has_open_calls
        if complete and submitter is not None:
            unseen = self._wait_for_tasks(submitter)
            all_ended = not submitter.broken or not submitter.has_open_calls
        elif all_ended and submitter is not None:
            unseen += step("the files of tasks", self.program.place_all_files) or []
        with delayed_signals(final, "the run is ending; the last measurements are being collected"):
            if submitter is not None:
                unseen += step("the errors of tasks", submitter.unseen_errors) or []
                step("the sending of calls", submitter.close)
                if not all_ended:
                    step("the calls that were cut off", self._cut_off, submitter, exit_code)
            self._end_measurement(step, all_ended)
            for text in step("the flame graphs", make_flame_graphs, self.directory.profiles) or ():
                say(f"runmem: note: {text}")
            if submitter is not None and self.cut_off is not None:
                self._count_cut_off(submitter)
            step("the streams", streams.detach)
            step("the cluster", self._cluster.close, not complete)
            if not hasattr(self, "program") or self.program.all_files_in_place:  # an interrupt may end its start
                shutil.rmtree(self.directory.files, ignore_errors=True)
            step("the spool", end_spool, self.run_id, True)
            recorded.observers.run_ended(RunEnded(exit_code))
            self.ended_s = self._now()
            is_written = step("run.json", self._write_run_json, exit_code if exit_code or not unseen else 1)
            if is_written and not recorded.recorder.lost:
                step("the copies of the spools", remove_replicas, self.directory)
        return unseen

    def _wait_for_tasks(self, submitter: RunSubmitter) -> list[BaseException]:
        late: list[BaseException] = []
        while True:
            try:
                submitter.wait(None)
                break
            except Exception as error:
                late.append(error)
                if submitter.broken:
                    break
        try:
            return late + self.program.place_all_files()
        except Exception as error:
            return [*late, error]

    def _cut_off(self, submitter: RunSubmitter, exit_code: int | None) -> None:
        """Begin no other call, and end those that run; records of calls that have ended by then are complete."""
        lost = submitter.broken and self._connected is not None
        reason = "the connection to the cluster was lost" if lost else reason_of_end(exit_code)
        self.cut_off = CutOff(reason, 0, 0, self.settings.python_memory_profile)
        self.collector.cut_off(f"{reason} before the task did")
        if not self._cluster.end_workers() and self._remote is not None:
            try:
                submitter.abandon()
            finally:
                self._remote.stop_calls()

    def _count_cut_off(self, submitter: RunSubmitter) -> None:
        assert self.cut_off is not None
        not_begun = sum(not self.collector.has_record(task_id) for task_id in submitter.open_calls())
        self.cut_off = self.cut_off._replace(cancelled=self.collector.cancelled, not_begun=not_begun)

    def _calls_not_begun(self) -> int:
        """Return the number of calls that never ran: cut off, cancelled, refused, or in need of a failed call."""
        cut_off = self.cut_off.not_begun if self.cut_off is not None else 0
        submitter = self.submitter.real
        if submitter is None or not self.settings.python_memory_profile:
            return cut_off
        return cut_off + sum(not self.collector.has_record(task_id) for task_id in submitter.failed_calls())

    def _end_measurement(self, step: Steps, all_ended: bool) -> None:
        from runmem.collection.spool_reader import end_spool

        remote = self._remote
        if remote is not None:
            step("the samplers of other nodes", remote.end, False)
        step("the sampler", end_spool, self.run_id, False)
        step("the last measurements", self.collector.finish, all_ended)
        step("the count of records", self._check_records)
        if remote is not None:
            for place, reason in {**remote.losses, **remote.silent, **remote.unreached()}.items():
                self.report_lost(place, reason)
            if self.cut_off is None or not self._cluster.ours:
                step("the workers", remote.leave)
            step("the spools of other nodes", remote.end, True)

    def _check_records(self) -> None:
        """Report calls that finished and have no record."""
        submitter = self.submitter.real
        if not self.settings.python_memory_profile or submitter is None or self.settings.sequential:
            return
        missing = submitter.finished - self.collector.calls_recorded
        if missing > 0:
            self.report_lost("records of tasks", f"{missing} calls ended, and their measurements did not arrive here")

    def __enter__(self) -> Run:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        unseen = self.finish(status_of(error))
        if unseen and error is None:
            raise unseen[0]

    def _write_run_json(self, exit_code: int | None = None) -> bool:
        """Write ``run.json`` with the present state; return True if it is written."""
        if self._recording is None:
            return False
        values: dict[str, object] = {
            "app": self.app,
            "run_id": self.run_id,
            "command": self.command,
            "folder": self._folder,
            "host": node_name(),
            "pid": os.getpid(),
            "spool": str(Spool.of_run(self.run_id).root),
            "started_s": self.started_s,
            "ended_s": self.ended_s,
            "exit_code": exit_code,
            "cluster": "none (sequential)" if self.settings.sequential else self._cluster.kind,
            "workers": self._connected[1] if self._connected else self.own_processes,
            "calls_not_begun": self._calls_not_begun() if self.ended_s is not None else 0,
            "settings": self.settings.describe(),
            "lost_output": self.lost_output(),
        }
        calls = self.own_calls + (self.program.calls if hasattr(self, "program") else 0)
        return self._recording.write_run_json(values, calls, self.ended_s is not None)
