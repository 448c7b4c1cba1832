"""A run that is prepared: its settings are checked, its run directory and spool are made, and nothing has begun."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runmem.clusters import Cluster, cluster_for
from runmem.clusters.local import EmbeddedCluster
from runmem.collection.observer import Observer
from runmem.dask_logging import import_dask, isolate_dask_log, set_dask_log_level
from runmem.execution.checks import (
    check_memray,
    check_process,
    check_sequential,
    check_writable,
    known_needs,
    pack_probes,
)
from runmem.execution.import_path import import_from
from runmem.extensions import make_extensions
from runmem.graph.current import set_current_program
from runmem.node.clock import clock_of
from runmem.node.members import join
from runmem.settings import Settings
from runmem.store.append import LineAppender
from runmem.store.layout import RunDirectory, Spool, safe_name
from runmem.store.node_name import node_name
from runmem.worker.run_on_workers import RunOnWorkers

__all__ = ["PreparedRun"]


class PreparedRun:
    """A run before its start. A caller that runs calls itself forks its processes from here.

    Parameters
    ----------
    settings : Settings
    app : str
        Name of the program, for the run directory.
    command : list of str
        The command line, for the record.
    observers : sequence of Observer
        Informed of all events, beside the observers that write the run directory.
    prepare_workers : sequence of str
        Functions without arguments, as ``module:function``, that each worker calls before its first task.
    import_folder : str, optional
        Folder of the program, from which workers import too; beside those in `sys.path` when the cluster is reached.
    probes : sequence of Probe, type or str
        Measure each task on its worker, beside its peak. The worker makes the object of a class, or of a class named
        as ``module:Class``.

    Attributes
    ----------
    own_processes : int
        Number of processes that the caller has forked to run calls itself.
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
        self._import_folder = import_folder
        self._folder = import_folder or os.getcwd()
        self.prepare_workers = tuple(prepare_workers)
        self.settings = settings
        self.app = safe_name(app)
        self.command = list(command)
        self.run_id = f"{time.strftime('%Y%m%d%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.started_s = time.time()
        self.ended_s: float | None = None
        self._trace_name = f"mprofile_{time.strftime('%Y%m%d%H%M%S', time.localtime(self.started_s))}.dat"
        check_sequential(settings)
        check_memray(settings)
        self._known_needs = known_needs(settings)
        self._probes = pack_probes([*probes, *settings.probes], settings, import_folder)
        self._extra = [*observers, *make_extensions(settings.observers, Observer, "--observers", import_folder)]
        self._cluster: Cluster = cluster_for(settings)
        self._prepared = False
        self.own_processes = 0

    def prepare(self) -> None:
        """Make the run directory and the spool, without a thread or another process; callers that fork do so after it.

        It refuses settings with which a run cannot take place, and imports little, so that forked processes begin soon.
        """
        check_process()
        isolate_dask_log()
        set_dask_log_level(logging.NOTSET)
        try:
            self._make_folders()
        except BaseException:
            self._remove_all()
            raise
        self._prepared = True

    def _make_folders(self) -> None:
        import_from(self.settings.pythonpath)
        if not self._cluster.lazy:
            import_dask()
            self._cluster.connect()  # before anything is made: it may refuse
        self.directory = RunDirectory.create(self.app, self.settings.run_folder.absolute())
        self._trace_folder = (self.settings.worker_profile_path or Path.cwd()).absolute()
        check_writable(self._trace_folder, self.settings)
        spool = Spool.of_run(self.run_id)
        spool.make()
        self._now = clock_of(spool.root)
        self.started_s = self._now()
        if self.settings.python_memory_profile:
            with suppress(OSError):  # the program runs; the trace is reported as missing
                what, metric = " ".join(self.command), self.settings.memory_metric
                join(spool.root, os.getpid(), self._trace_name, "", what, descendants=False, metric=metric)

    def _remove_all(self) -> None:
        """Remove everything that a failed start has made: no program has begun."""
        set_current_program(None)
        self._cluster.close(abandon=True)
        shutil.rmtree(Spool.of_run(self.run_id).root, ignore_errors=True)
        if hasattr(self, "directory"):
            self.directory.remove()

    @property
    def is_local(self) -> bool:
        """Whether the workers will be processes of this machine, in the environment of this one."""
        return self._cluster.kind == EmbeddedCluster.kind and self.settings.env_script is None

    def _on_workers(self) -> RunOnWorkers:
        return RunOnWorkers(
            run_id=self.run_id,
            app=self.app,
            host=node_name(),
            spool=str(Spool.of_run(self.run_id).root),
            measures=self.settings.python_memory_profile,
            interval_s=self.settings.memory_interval_s,
            metric=self.settings.memory_metric,
            malloc_trim=self.settings.malloc_trim,
            profile_peak=self.settings.profile_peak,
            memray=self.settings.memray,
            probes=self._probes,
            folder=self._folder,
            memory_aware=self.settings.memory_aware,
        )

    def on_this_node(self, processes: int) -> RunOnWorkers:
        """Return the description of the run for processes that the caller forks after `prepare` to run its calls.

        Each opens a `WorkerRun`, and counts as a worker of the run.
        """
        self.own_processes = processes
        return self._on_workers()._replace(workers_a_node=processes)

    @property
    def worker_memory_bytes(self) -> int | None:
        """Memory limit of a worker of this machine; None: the workers are elsewhere."""
        return self._cluster.worker_memory_bytes if isinstance(self._cluster, EmbeddedCluster) else None

    def stop_sampling(self) -> None:
        """Ask this node's sampler to end, when all work is done: `finish`, which waits for it, then takes less time."""
        from runmem.collection.spool_reader import stop_sampler

        with suppress(OSError):  # `finish` tries again
            stop_sampler(self.run_id)

    def note_death(self, pid: int, cause: str) -> None:
        """Note why a process of this node died, for the record of the call that it ran."""
        deaths = LineAppender(Spool.of_run(self.run_id).deaths(os.getpid()))
        deaths.write(json.dumps({"pid": pid, "cause": cause}).encode() + b"\n")
        deaths.close()
