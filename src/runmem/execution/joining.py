"""Joins the workers of a cluster to a run, and lets them go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import distributed

from runmem.clusters.child_imports import MainModule
from runmem.collection.remote_nodes import RemoteNodes
from runmem.dask_private import shorten_intervals
from runmem.deadlines import within
from runmem.execution.bundle import KEY_MARK
from runmem.execution.forgiving import Forgiving
from runmem.settings import Settings
from runmem.shadowed import current_shadowing
from runmem.store.layout import Spool
from runmem.store.node_name import node_name
from runmem.worker.call_recorder import RunOnWorkers, stats_topic, stop_calls
from runmem.worker.dask_plugin import RunmemWorker
from runmem.worker.nanny import RunmemNanny
from runmem.worker.process_state import import_paths
from runmem.worker.task_output import Unwritten

__all__ = ["JoinedCluster", "join_cluster"]

log = logging.getLogger(__name__)

_JOIN_S = 60.0  # a worker imports the program's libraries meanwhile
_LEAVE_S = 5.0


class Listener(Protocol):
    """Who wants to know how long calls last and how many workers there are: the submitter."""

    def told(self, name: str, calls: int, seconds: float, largest_bytes: int) -> None:
        """Take what a worker tells; called in the client's event loop, which must not be held up."""

    def timed_out(self, task_id: int, limit_s: float, stack: str | None, where: str) -> None:
        """Take that a call is to fail because its time was up; called as `told` is."""

    def workers_changed(self, workers: int) -> None:
        """Take the number of workers."""


class JoinedCluster(RemoteNodes):
    """A cluster whose workers take part in a run.

    Attributes
    ----------
    losses : dict
        What workers could not measure or write: place to what is known of it.
    unsure : set
        Workers, as (node, process id), that could not write all lines about their tasks.
    unwritten : dict
        What workers, as (node, process id), could not write of what tasks printed.
    several_threads : bool
        Whether a worker runs several tasks at a time, and so cannot follow the state of the program's process.
    has_logged : bool
        Whether a task has logged something since this was last set to False.
    """

    def __init__(
        self,
        client: distributed.Client,
        run: RunOnWorkers,
        plugins: list[Any],
        submitter: Callable[[], Listener | None],
    ) -> None:
        super().__init__(client, run.run_id, run.interval_s if run.measures else None)
        self._plugins = plugins
        self._submitter = submitter
        self.losses: dict[str, str] = {}
        self.unsure: set[tuple[str, int]] = set()
        self.unwritten: dict[tuple[str, int], Unwritten] = {}
        self.several_threads = False
        self.has_logged = False

    def workers_changed(self, workers: int) -> None:
        """Tell who bundles calls, and let new connections be as quick as the first."""
        if (submitter := self._submitter()) is not None:
            submitter.workers_changed(workers)
        shorten_intervals(self._client)

    def join(self, plugin: Any) -> None:
        """Give a plugin to all workers; those that do not answer are passed by, and named among the losses."""
        try:
            within(_JOIN_S, self._client.register_plugin, plugin)
        except TimeoutError:
            for address in self.unanswered(node_name):
                self.losses[address] = (
                    "this worker did not answer when the run began: what runs there may not be measured"
                )

    def take(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take what a worker or a nanny reports; called in the client's event loop."""
        message = event[1]
        if "left" in message:
            self.left(message["left"], message["files"], message["more"])
        elif "lost" in message:
            self.losses[message["place"]] = message["lost"]
            if "pid" in message:
                self.unsure.add((message["node"], message["pid"]))
        elif "unwritten" in message:
            self.unwritten[message["node"], message["pid"]] = Unwritten(*message["unwritten"])
        elif "logged" in message:
            self.has_logged = True
        elif (submitter := self._submitter()) is not None:
            if "timed_out" in message:
                where = f"node {message['node']}, process {message['pid']}"
                submitter.timed_out(message["timed_out"], message["limit_s"], message["stack"], where)
            else:
                submitter.told(message["name"], message["calls"], message["seconds"], message["largest_bytes"])

    def stop_calls(self) -> None:
        """Let the workers begin no other call of the run; those that do not answer are named among the losses."""
        for address in self.unanswered(stop_calls, self._run_id):
            self.losses[address] = "this worker did not answer when the run ended: what it did then is not recorded"

    def leave(self) -> None:
        """Let the workers go; they may serve other runs."""
        with suppress(Exception):
            within(_LEAVE_S, self._client.unsubscribe_topic, stats_topic(self._run_id))
        with suppress(Exception):
            within(_LEAVE_S, self._client.unregister_scheduler_plugin, Forgiving(self._run_id, "").name)
        for plugin in self._plugins:
            unregister = partial(self._client.unregister_worker_plugin, nanny=isinstance(plugin, RunmemNanny))
            try:
                within(_LEAVE_S, unregister, plugin.name)
            except Exception as error:  # the workers are gone, are other ones by now, or one is stopped
                log.info("%s stays on the workers: %s", plugin.name, error)


def join_cluster(
    client: distributed.Client,
    run_id: str,
    app: str,
    settings: Settings,
    submitter: Callable[[], Listener | None],
    prepare: tuple[str, ...] = (),
    quiet: bool = False,
    import_folder: str | None = None,
    probes: bytes = b"",
    folder: str = "",
) -> JoinedCluster:
    """Register a run with all workers that the cluster has and will have.

    Parameters
    ----------
    submitter : callable
        Gives who sends calls, once there is one.
    prepare, quiet, probes, folder
        See `RunOnWorkers`.
    import_folder : str, optional
        Folder of the program, if it is not in `sys.path` yet.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    hosts = {worker["host"] for worker in workers}
    run = RunOnWorkers(
        run_id=run_id,
        app=app,
        host=node_name(),
        spool=str(Spool.of_run(run_id).root),
        measures=settings.python_memory_profile,
        interval_s=settings.memory_interval_s,
        malloc_trim=settings.malloc_trim,
        import_paths=tuple(dict.fromkeys([*([import_folder] if import_folder else []), *import_paths()])),
        workers_a_node=max(1, len(workers) // max(1, len(hosts))),
        prepare=prepare,
        quiet=quiet,
        main=MainModule.of_this_process(),
        probes=probes,
        folder=folder,
        shadowing=current_shadowing(import_folder),
    )
    plugins = [RunmemNanny(run_id), RunmemWorker(run)]
    cluster = JoinedCluster(client, run, plugins, submitter)
    cluster.several_threads = any(worker["nthreads"] > 1 for worker in workers)

    client.subscribe_topic(stats_topic(run_id), cluster.take)  # first: a worker may fail to join, and say so
    for plugin in plugins:
        cluster.join(plugin)
    try:
        within(_JOIN_S, client.register_plugin, Forgiving(run_id, KEY_MARK))
    except Exception as error:  # a scheduler without runmem, say: there Dask counts as it does
        log.info("the scheduler cannot be told to forgive: %s", error)
    return cluster
