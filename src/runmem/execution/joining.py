"""Joins the workers of a cluster to a run, and releases them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import distributed

from runmem.clusters.child_imports import MainModule
from runmem.collection.remote_nodes import RemoteNodes
from runmem.dask_private import tune_streams
from runmem.deadlines import within
from runmem.execution.call_state import KEY_MARK
from runmem.execution.death_counts import DeathCounts
from runmem.execution.nested_numbers import NumberSource
from runmem.shadowed import current_shadowing
from runmem.store.node_name import node_name
from runmem.worker.call_recorder import stop_calls
from runmem.worker.dask_plugin import RunmemWorker
from runmem.worker.isolation.attempts import Attempts
from runmem.worker.nanny import RunmemNanny
from runmem.worker.process_state import import_paths
from runmem.worker.run_on_workers import RunOnWorkers, stats_topic
from runmem.worker.task_output import Unwritten

__all__ = ["JoinedCluster", "join_cluster"]

log = logging.getLogger(__name__)

_JOIN_S = 60.0  # a worker imports the program's libraries meanwhile
_LEAVE_S = 5.0


class ReportSink(Protocol):
    """Receives the reports of workers, in the client's event loop, which it must not block."""

    workers: int

    def report_durations(self, name: str, calls: int, seconds: float, largest_bytes: int) -> None:
        """Note how long calls of a task lasted on a worker."""

    def report_need(self, name: str, needed_bytes: int, kept_bytes: int) -> None:
        """Note how much memory a call of a task has needed."""

    def report_timeout(self, task_id: int, limit_s: float, stack: str | None, where: str) -> None:
        """Note that the time limit of a call has passed."""


class JoinedCluster(RemoteNodes):
    """A cluster whose workers take part in a run.

    Attributes
    ----------
    unwritten : dict
        Output of tasks that workers could not write, by (node, process id).
    several_threads : bool
        Whether a worker runs several tasks at a time, and so cannot follow the state of the program's process.
    has_logged : bool
        Whether a task has logged a record since this was last set to False.
    scheduler_plugins : list of SchedulerPlugin
        Those that the scheduler has taken.
    """

    def __init__(
        self,
        client: distributed.Client,
        run: RunOnWorkers,
        plugins: tuple[RunmemNanny, RunmemWorker],
        sink: Callable[[], ReportSink | None],
    ) -> None:
        super().__init__(client, run.run_id, run.interval_s if run.measures else None)
        self._plugins = plugins
        self._sink = sink
        self.unwritten: dict[tuple[str, int], Unwritten] = {}
        self.several_threads = False
        self.has_logged = False
        self.scheduler_plugins: list[distributed.SchedulerPlugin] = []

    def workers_changed(self, workers: int) -> None:
        """Report the number to the submitter, and make new connections as quick as the first."""
        if (sink := self._sink()) is not None:
            sink.workers = max(1, workers)
        tune_streams(self._client)

    def join(self, plugin: RunmemNanny | RunmemWorker) -> None:
        """Register a plugin with all workers; those that do not answer are named among the losses."""
        try:
            within(_JOIN_S, self._client.register_plugin, plugin)
        except TimeoutError:
            for address in self.unanswered(node_name):
                self.losses[address] = (
                    "this worker did not answer when the run began: what runs there may not be measured"
                )

    @property
    def gives_up_at_death(self) -> bool:
        """Whether Dask gives up a call at the first death of its worker, see `DeathCounts`."""
        return any(isinstance(plugin, DeathCounts) for plugin in self.scheduler_plugins)

    def take(self, event: tuple[float, dict[str, Any]]) -> None:
        """Handle the report of a worker or a nanny; called in the client's event loop."""
        message = event[1]
        if self.reported(message):
            return
        if "unwritten" in message:
            self.unwritten[message["node"], message["pid"]] = Unwritten(*message["unwritten"])
        elif "logged" in message:
            self.has_logged = True
        elif (sink := self._sink()) is not None:
            if "timed_out" in message:
                where = f"node {message['node']}, process {message['pid']}"
                sink.report_timeout(message["timed_out"], message["limit_s"], message["stack"], where)
            elif "needed_bytes" in message:
                sink.report_need(message["name"], message["needed_bytes"], message["kept_bytes"])
            else:
                sink.report_durations(message["name"], message["calls"], message["seconds"], message["largest_bytes"])

    def stop_calls(self) -> None:
        """Make the workers begin no other call of the run; those that do not answer are named among the losses."""
        for address in self.unanswered(stop_calls, self._run_id):
            self.losses[address] = "this worker did not answer when the run ended: what it did then is not recorded"

    def leave(self) -> None:
        """Release the workers; they may serve other runs."""
        with suppress(Exception):
            within(_LEAVE_S, self._client.unsubscribe_topic, stats_topic(self._run_id))
        for plugin in self.scheduler_plugins:
            with suppress(Exception):
                within(_LEAVE_S, self._client.unregister_scheduler_plugin, plugin.name)
        self.remove_plugins(self._plugins, _LEAVE_S)


def join_cluster(
    client: distributed.Client, run: RunOnWorkers, sink: Callable[[], ReportSink | None], import_folder: str | None
) -> JoinedCluster:
    """Register a run with all present and future workers of the cluster.

    Parameters
    ----------
    run : RunOnWorkers
        Completed here by what the cluster and this process know.
    sink : callable
        Returns the receiver of the workers' reports, or None before there is one.
    import_folder : str or None
        Folder of the program, if it is not in `sys.path` yet.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    hosts = {worker["host"] for worker in workers}
    run = run._replace(
        import_paths=tuple(dict.fromkeys([*([import_folder] if import_folder else []), *import_paths()])),
        workers_a_node=max(1, len(workers) // max(1, len(hosts))),
        main=MainModule.of_this_process(),
        shadowing=current_shadowing(import_folder),
    )
    plugins = RunmemNanny(run.run_id, host=run.host), RunmemWorker(run)
    cluster = JoinedCluster(client, run, plugins, sink)
    cluster.several_threads = any(worker["nthreads"] > 1 for worker in workers)

    client.subscribe_topic(stats_topic(run.run_id), cluster.take)  # first: a worker that fails to join reports it here
    for plugin in plugins:
        cluster.join(plugin)
    on_scheduler: list[distributed.SchedulerPlugin] = [DeathCounts(run.run_id, KEY_MARK), Attempts(run.run_id)]
    if run.nesting is not None:
        on_scheduler.append(NumberSource(run.run_id))
    try:
        for each in on_scheduler:
            within(_JOIN_S, client.register_plugin, each)
            cluster.scheduler_plugins.append(each)
    except Exception as error:  # a scheduler without runmem, say: Dask counts deaths over the whole run
        log.info("the scheduler plugin cannot be registered: %s", error)
    return cluster
