"""A run from its start to its end: run directory, master trace, cluster, submitter and collector."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from runmem.clusters import Cluster, cluster_for
from runmem.clusters.child_imports import is_embedded_worker, is_importing_main
from runmem.clusters.local import EmbeddedCluster
from runmem.collection.observer import Observer
from runmem.dask_logging import import_dask, isolate_dask_log, set_dask_log_level
from runmem.errors import SettingError
from runmem.events import ClusterStarted, DataLost, RunEnded
from runmem.execution.ending import CutOff, Steps, ended_by
from runmem.execution.signals import undisturbed
from runmem.extensions import check_extensions, make_extensions
from runmem.graph.current import current_program, set_current_program
from runmem.memory.limits import memory_limit
from runmem.node.clock import clock_of
from runmem.node.launch import ensure_sampler
from runmem.node.members import join
from runmem.settings import Settings, option_name
from runmem.store.append import LineAppender
from runmem.store.layout import RunDirectory, Spool, safe_name
from runmem.store.node_name import node_name
from runmem.store.output import check_folder
from runmem.worker.call_recorder import RunOnWorkers, WorkerRun
from runmem.worker.probe import Probe
from runmem.worker.process_state import FollowedProcess

__all__ = ["Run"]

log = logging.getLogger(__name__)

_PACKAGES = ("runmem", "dask", "distributed", "memory-profiler", "psutil", "numpy", "cloudpickle")


class Run:
    """One execution of a program. Use as a context manager, or `start` and `finish`.

    Parameters
    ----------
    settings : Settings
    app : str
        Name of the program, for the run directory.
    command : list of str
        What was typed, for the record.
    observers : sequence of Observer
        Told of all that happens, beside those that write the run directory.
    prepare_workers : sequence of str
        Functions without arguments, as ``module:function``, that each worker calls before its first task.
    import_folder : str, optional
        Folder of the program, from which workers import too; beside those in `sys.path` when the cluster is reached.

    probes : sequence of Probe, type or str
        Measure each task on its worker, beside its peak. A class, or one named as ``module:Class``, is made there.

    Attributes
    ----------
    own_processes : int
        How many processes the caller has forked to run calls itself.
    own_calls : int
        How many calls these have run, or begun with; set by the caller.
    cut_off : CutOff or None
        After `finish`: what its end meant for calls that had not ended; None where all had.

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
        probes: Sequence[Any] = (),
    ) -> None:
        self._import_folder = import_folder
        self._folder = import_folder or os.getcwd()
        self.prepare_workers = tuple(prepare_workers)
        self.settings = settings
        self.app = safe_name(app)
        self.command = list(command)
        self.run_id = f"{time.strftime('%Y%m%d%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.started_s = time.time()
        self._trace_name = f"mprofile_{time.strftime('%Y%m%d%H%M%S', time.localtime(self.started_s))}.dat"
        if settings.sequential:
            _check_sequential(settings)
        self._probes = _packed_probes([*probes, *settings.probes], settings, import_folder)
        self._extra = [*observers, *make_extensions(settings.observers, Observer, "--observers", import_folder)]
        self._cluster: Cluster = cluster_for(settings)
        self._connected: Any = None
        self._connecting = threading.Lock()
        self._prepared = self._watched = False
        self.own_processes = self.own_calls = 0
        self._submitter: Any = None
        self._remote: Any = None
        self.cut_off: CutOff | None = None

    def prepare(self) -> None:
        """Make the run directory and the spool, without a thread or another process: whoever forks does so after this.

        It refuses what cannot be run, and loads no more than it needs, so that processes forked after it begin soon.
        """
        if is_embedded_worker():
            raise SettingError("this process is a worker of a run, and a task cannot start another: call the tasks.")
        if is_importing_main():
            raise SettingError(
                "this process was spawned by the program and imports it once more: put what starts a run "
                "(runmem.session) below `if __name__ == '__main__':`."
            )
        if current_program() is not None:
            raise SettingError("a run is under way in this process already: end it before you start another.")
        isolate_dask_log()
        set_dask_log_level(logging.NOTSET)
        try:
            self._make_folders()
        except BaseException:
            self._leave_nothing()
            raise
        self._prepared = True

    def _make_folders(self) -> None:
        if not self._cluster.lazy:
            import_dask()
            self._cluster.connect()  # before anything is made: it may refuse
        self.directory = RunDirectory.create(self.app, self.settings.run_folder.absolute())
        self._trace_folder = (self.settings.worker_profile_path or Path.cwd()).absolute()
        _check_writable(self._trace_folder, self.settings)
        spool = Spool.of_run(self.run_id)
        spool.make()
        self._now = clock_of(spool.root)
        self.started_s = self._now()
        if self.settings.python_memory_profile:
            with suppress(OSError):  # the program runs, the trace is missing and said to be
                join(spool.root, os.getpid(), self._trace_name, "", " ".join(self.command), descendants=False)

    def _leave_nothing(self) -> None:
        """Take away what a start has made that did not come to its end: no program has begun."""
        set_current_program(None)
        self._cluster.close(abandon=True)
        shutil.rmtree(Spool.of_run(self.run_id).root, ignore_errors=True)
        if hasattr(self, "directory"):
            self.directory.remove()

    def _watch(self) -> None:
        """Make what observes the run and collects its measurements, once."""
        if self._watched:
            return
        from runmem.collection.collector import Collector
        from runmem.collection.logged_records import LoggedRecords
        from runmem.collection.observer import Observers
        from runmem.collection.recorder import ProfileWriter, Recorder
        from runmem.collection.replicas import Replicas

        self.recorder = Recorder(self.directory)
        self._logged = LoggedRecords()
        shown = self.settings.log_level == "debug"
        own = [self.recorder, ProfileWriter(self.directory, shown, self.recorder.data_lost), self._logged]
        self.observers = Observers([*own, *self._extra])
        self._replicas = Replicas(self.directory, self._trace_folder)
        interval = self.settings.memory_interval_s if self.settings.python_memory_profile else None
        self.collector = Collector(
            self.run_id, self.directory, self._replicas, self.observers, interval, self._write_provenance,
            self.settings.spool_size_bytes, self._logged.deliver,
        )  # fmt: skip
        self._watched = True
        self._write_provenance()
        Spool.of_run(self.run_id).remove_old_ones()

    def start(self) -> Run:
        """Begin to measure, and let task calls go to the cluster; `prepare` first, unless that was done."""
        was_prepared = self._prepared  # then processes were forked meanwhile, and what they have done is kept
        if not was_prepared:
            self.prepare()
        try:
            self._begin()
        except BaseException:
            if not was_prepared:
                self._leave_nothing()
            raise
        return self

    def _begin(self) -> None:
        from runmem.graph.program import Program

        self._watch()
        if self.settings.python_memory_profile:
            with suppress(OSError):  # as above
                ensure_sampler(Spool.of_run(self.run_id).root, self.settings.memory_interval_s)
        if not self._cluster.lazy:
            self._connect()
        self._process = FollowedProcess(is_followed=self._remote is None or not self._remote.several_threads)
        self.program = Program(_LazySubmitter(self), self._files_folder)
        self.collector.start()
        set_current_program(self.program)

    @property
    def has_open_calls(self) -> bool:
        """Whether a call of the program has not ended."""
        return self._submitter is not None and self._submitter.has_open_calls

    @property
    def is_local(self) -> bool:
        """Whether the workers are to be processes of this machine, in the environment of this one."""
        return self._cluster.kind == EmbeddedCluster.kind and self.settings.env_script is None

    def on_this_node(self, processes: int) -> RunOnWorkers:
        """Return what processes that the caller forks after `prepare` must know to run calls of this run themselves.

        They are to open a `WorkerRun`, and count as its workers.
        """
        self.own_processes = processes
        return RunOnWorkers(
            run_id=self.run_id,
            app=self.app,
            host=node_name(),
            spool=str(Spool.of_run(self.run_id).root),
            measures=self.settings.python_memory_profile,
            interval_s=self.settings.memory_interval_s,
            malloc_trim=self.settings.malloc_trim,
            workers_a_node=processes,
            probes=self._probes,
            folder=self._folder,
        )

    def _join_itself(self) -> WorkerRun | None:
        """Let this process run the calls; without measuring, if that is not to be had."""
        try:
            return WorkerRun(
                self.on_this_node(1), memory_limit().limit_bytes, lambda message: None, trace=self._trace_name
            )
        except Exception as error:
            self.tell_lost(f"process {os.getpid()} on node {node_name()}", f"its tasks were not measured: {error}")
            return None

    @property
    def worker_memory_bytes(self) -> int | None:
        """What a worker of this machine may use; None: workers are elsewhere."""
        return self._cluster.worker_memory_bytes if isinstance(self._cluster, EmbeddedCluster) else None

    def lost_output(self) -> str | None:
        """Say how much of what tasks printed found no room on their workers; None: nothing is known to be lost."""
        from runmem.worker.task_output import told_of_unwritten

        return None if self._remote is None else told_of_unwritten([*self._remote.unwritten.values()])

    def stop_sampling(self) -> None:
        """Let this node's sampler end, as all work is done: `finish`, which waits for that, is the sooner through."""
        from runmem.collection.spool_reader import stop_sampler

        with suppress(OSError):  # `finish` tries again
            stop_sampler(self.run_id)

    def tell_lost(self, place: str, what: str) -> None:
        """Note that something was not measured."""
        self._watch()  # it may not have come to `start`
        self.observers.data_lost(DataLost(place, what))

    def tell_death(self, pid: int, cause: str) -> None:
        """Note why a process of this node died: it stands in the record of the call that it ran."""
        deaths = LineAppender(Spool.of_run(self.run_id).deaths(os.getpid()))
        deaths.write(json.dumps({"pid": pid, "cause": cause}).encode() + b"\n")
        deaths.close()

    def bring_log(self) -> None:
        """Give the program's handlers what tasks have logged that have ended."""
        if self._remote is not None and self._remote.has_logged:
            self._remote.has_logged = False
            self.collector.collect()

    def _files_folder(self) -> Path:
        return self.directory.files

    def _connect(self) -> tuple[Any, int]:
        """Start or reach the cluster and join its workers to this run."""
        with self._connecting:
            return self._connect_once()

    def _connect_once(self) -> tuple[Any, int]:
        if self._connected is None:
            import_dask()
            from runmem.execution import joining

            client = self._cluster.connect()
            # Workers of ours, on this terminal, keep their own log of failed tasks to themselves.
            quiet = self._cluster.ours and self.settings.log_level == "off"
            self._remote = joining.join_cluster(
                client,
                self.run_id,
                self.app,
                self.settings,
                lambda: self._submitter,
                self.prepare_workers,
                quiet,
                self._import_folder,
                self._probes,
                self._folder,
            )
            self._remote.check_names()
            self._connected = client, max(1, self._remote.workers())
            self.collector.add_remote(self._remote.read, self._remote.unsure)
            self._write_provenance()
            self.observers.cluster_started(ClusterStarted(self._cluster.dashboard(client), self._connected[1]))
        connected: tuple[Any, int] = self._connected
        return connected

    def finish(self, exit_code: int | None, complete: bool | None = None, final: bool = False) -> list[BaseException]:
        """Wait for all tasks, collect, end what was started; return the errors of tasks that nobody has seen.

        Parameters
        ----------
        exit_code : int or None
            The program's, for the record.
        complete : bool, optional
            Whether tasks that the program has called and not waited for are completed, as plain Python would have done
            before it came to the end; default: if the exit code is 0. A program that crashed needs them no more.
        final : bool
            Whether the process ends with the run. Signals that ask to end are held back as soon as no task is waited
            for any more; `final`: for good.
        """
        complete = not exit_code if complete is None else complete
        from runmem.collection.replicas import remove_replicas
        from runmem.collection.spool_reader import end_spool

        set_current_program(None)
        self._watch()  # it may not have come to `start`
        submitter, step = self._submitter, Steps(self.tell_lost)
        unseen: list[BaseException] = []
        all_ended = submitter is None or not submitter.has_open_calls
        if complete and submitter is not None:
            unseen = self._wait_for_tasks()
            all_ended = not submitter.broken or not submitter.has_open_calls
        elif all_ended and submitter is not None:
            unseen += step("the files of tasks", self.program.settle_all_files) or []
        with undisturbed(final):
            if submitter is not None:
                unseen += step("the errors of tasks", submitter.unseen_errors) or []
                step("the sending of calls", submitter.close)
            if not all_ended:
                step("the calls that were cut off", self._cut_off, exit_code)
            self._end_measurement(step, all_ended)
            if self.cut_off is not None:
                self._count_cut_off(submitter)
            step("the cluster", self._cluster.close, not complete)
            if not hasattr(self, "program") or self.program.all_files_in_place:  # an interrupt may end its start
                shutil.rmtree(self._files_folder(), ignore_errors=True)
            step("the spool", end_spool, self.run_id, True)
            self.observers.run_ended(RunEnded(exit_code))
            self.ended_s = self._now()
            is_written = step("run.json", self._write_provenance, exit_code if exit_code or not unseen else 1)
            if is_written and not self.recorder.lost:
                step("the copies of the spools", remove_replicas, self.directory)
        return unseen

    def _wait_for_tasks(self) -> list[BaseException]:
        late: list[BaseException] = []
        while True:
            try:
                self._submitter.wait(None)
                break
            except Exception as error:
                late.append(error)
                if self._submitter.broken:
                    break
        try:
            return late + self.program.settle_all_files()
        except Exception as error:
            return [*late, error]

    def _cut_off(self, exit_code: int | None) -> None:
        """Let no other call begin, and end those that run; what has ended by then is complete in the spools."""
        lost = self._submitter.broken and self._connected is not None
        reason = "the connection to the cluster was lost" if lost else ended_by(exit_code)
        self.cut_off = CutOff(reason, 0, 0, self.settings.python_memory_profile)
        self.collector.cut_off(f"{reason} before the task did")
        if not self._cluster.end_workers() and self._remote is not None:
            try:
                self._submitter.cancel()
            finally:
                self._remote.stop_calls()

    def _count_cut_off(self, submitter: Any) -> None:
        assert self.cut_off is not None
        open_calls = submitter.open_calls()
        not_begun = sum(not self.collector.has_record(task_id) for task_id in open_calls)
        self.cut_off = self.cut_off._replace(cancelled=self.collector.cancelled, not_begun=not_begun)

    def _end_measurement(self, step: Steps, all_ended: bool) -> None:
        from runmem.collection.spool_reader import end_spool
        from runmem.events import DataLost

        remote = self._remote
        if remote is not None:
            step("the samplers of other nodes", remote.end, False)
        step("the sampler", end_spool, self.run_id, False)
        step("the last measurements", self.collector.finish, all_ended)
        step("the count of records", self._check_records, all_ended)
        if remote is not None:
            for place, reason in {**remote.losses, **remote.silent, **remote.unreached()}.items():
                self.observers.data_lost(DataLost(place, reason))
            if self.cut_off is None or not self._cluster.ours:
                step("the workers", remote.leave)
            step("the spools of other nodes", remote.end, True)

    def _check_records(self, all_ended: bool) -> None:
        """Tell of calls that ended well and have no record."""
        if not self.settings.python_memory_profile or self._submitter is None or self.settings.sequential:
            return
        missing = self._submitter.ran_well - self.collector.calls_recorded
        if missing > 0:
            self.tell_lost(
                "records of tasks", f"{missing} calls ended, and nothing that was measured of them came here"
            )

    def __enter__(self) -> Run:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        unseen = self.finish(_exit_code(error))
        if unseen and error is None:
            raise unseen[0]

    def _write_provenance(self, exit_code: int | None = None) -> bool:
        """Write ``run.json`` as it is to be now; return whether it is written."""
        ended = getattr(self, "ended_s", None)
        lost = list(self.recorder.lost)
        calls = self.own_calls + (self.program.calls if hasattr(self, "program") else 0)
        values = {
            "app": self.app,
            "run_id": self.run_id,
            "command": self.command,
            "folder": self._folder,
            "host": node_name(),
            "pid": os.getpid(),
            "spool": str(Spool.of_run(self.run_id).root),
            "started_s": self.started_s,
            "ended_s": ended,
            "exit_code": exit_code,
            "cluster": "none (sequential)" if self.settings.sequential else self._cluster.kind,
            "workers": self._connected[1] if self._connected else self.own_processes,
            "calls": calls,
            "calls_recorded": self.collector.calls_recorded,
            "calls_not_begun": self.cut_off.not_begun if self.cut_off is not None else 0,
            "versions": {"python": platform.python_version(), "system": platform.platform(), **_versions()},
            "settings": self.settings.describe(),
            "nodes": self.collector.nodes,
            "trace_files": [str(path) for path in self._replicas.links.values()],
            "lost": lost,
            "lost_output": self.lost_output(),
            "records_complete": ended is not None and not lost and self.collector.calls_recorded == calls,
        }
        from runmem.store.run import write_provenance

        try:
            write_provenance(self.directory, values)
            return True
        except OSError as error:
            log.error("%s could not be written: %s", self.directory.run_json, error)
            return False


def _exit_code(error: BaseException | None) -> int:
    """Return 0 where a block ended by itself or by a ``sys.exit`` that means success, else 1."""
    if error is None:
        return 0
    if not issubclass(type(error), SystemExit):  # `isinstance` asks the exception, too
        return 1
    code = vars(SystemExit)["code"].__get__(error)
    return 0 if code is None or (issubclass(type(code), int) and int.__int__(code) == 0) else 1


class _LazySubmitter:
    """Stands in until the first call, so that a program without tasks does not pay for Dask."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def _real(self) -> Any:
        run = self._run
        if run._submitter is None:
            copied = None if run.settings.inputs is None else run.settings.inputs == "copied"
            if run.settings.sequential:
                from runmem.execution.sequential import SequentialSubmitter

                run._submitter = SequentialSubmitter(run._join_itself, run.observers, copied)
            else:
                import_dask()
                from runmem.execution.submitter import DaskSubmitter

                run._submitter = DaskSubmitter(
                    run.run_id, run._connect, run.observers, run.collector.killed_reason, copied, run._process,
                    in_order=run._cluster.ours, limit_s=run.settings.task_timeout_s, now=run._now,
                    running=run.collector.running,
                )  # fmt: skip
        return run._submitter

    def submit(self, call: Any, resolve: Any) -> None:
        self._real().submit(call, resolve)

    def fetch(self, versions: Sequence[Any]) -> list[Any]:
        try:
            return list(self._real().fetch(versions))
        finally:
            self._run.bring_log()

    def wait(self, executions: Sequence[Any] | None, raises: bool = True) -> None:
        if self._run._submitter is not None:
            try:
                self._run._submitter.wait(executions, raises)
            finally:
                self._run.bring_log()

    def has_ended(self, execution: Any) -> bool:
        return bool(self._real().has_ended(execution))


def _check_writable(folder: Path, settings: Settings) -> None:
    """Raise before any work is done if the traces could not be written."""
    if not settings.python_memory_profile:
        return
    try:
        check_folder(folder)
    except OSError as error:
        raise SettingError(
            f"the traces cannot be written to {folder}: {error.strerror or error}. Start the program in a folder that "
            "you may write to, or set COMPSS_WORKER_PROFILE_PATH to one."
        ) from error


def _packed_probes(probes: Sequence[Any], settings: Settings, import_folder: str | None) -> bytes:
    """Return probes as they travel to the workers."""
    if not probes:
        return b""
    if not settings.python_memory_profile:
        raise SettingError("--probes: what they measure stands in the records of tasks, which need "
                           "--python_memory_profile.")  # fmt: skip
    check_extensions(probes, Probe, "--probes", import_folder)
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(list(probes))
    except Exception as error:
        raise SettingError(f"--probes: they cannot be sent to a worker ({type(error).__name__}: {error}).") from error
    return packed


def _check_sequential(settings: Settings) -> None:
    """Raise for a setting that asks for workers, of which a sequential run has none."""
    names = ("workers", "worker_memory_bytes", "scheduler", "scheduler_file", "hosts", "cluster", "env_script")
    given = [f for f in fields(Settings) if f.name in names and getattr(settings, f.name) is not None]
    if given:
        raise SettingError(
            f"--sequential runs the tasks in the program's own process, and --{option_name(given[0])} asks for "
            "workers: leave one of them out."
        )


@cache  # written three times in a run
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
