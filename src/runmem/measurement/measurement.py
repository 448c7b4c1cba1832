"""The measurement of a Dask program, from its start to its end, on the side of the client.

::

    start: run directory ─> plugins to workers and nannies ─> collector (thread) copies the spools
    stop:  plugins removed ─> samplers end ─> last lines ─> run.json     the cluster is as it was
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import dask
import distributed

from runmem.collection.collector import Collector
from runmem.collection.killed_tasks import DeathReports
from runmem.collection.observer import Observer
from runmem.collection.replicas import remove_replicas
from runmem.collection.spool_reader import end_spool
from runmem.errors import SettingError
from runmem.events import RunEnded
from runmem.execution.ending import Steps
from runmem.execution.recording import Recording
from runmem.execution.signals import delayed_signals
from runmem.extensions import make_extensions
from runmem.measurement.carrier import runmem_version
from runmem.measurement.measured_cluster import MeasuredCluster, address_of
from runmem.measurement.memory_policy import MemoryPolicy, checked_policy
from runmem.node.clock import clock_of
from runmem.node.launch import ensure_sampler
from runmem.node.members import join
from runmem.settings import Settings, resolve
from runmem.store.layout import RunDirectory, Spool, safe_name
from runmem.store.node_name import node_name
from runmem.worker.run_on_workers import RunOnWorkers

__all__ = ["Measurement", "measurement_settings"]

_SETTINGS = ("memory_interval", "memory_metric", "run_folder", "spool_size", "observers", "on_memory")
_CONNECT_S = 5.0
_END = "the measurement ended before the task did"


def measurement_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings of a measurement.

    Raises
    ------
    SettingError
        For one that a measurement does not have, or an invalid value.
    """
    if unknown := [name for name in given if name not in _SETTINGS]:
        raise SettingError(
            f"measure() has no setting {unknown[0]!r}: it has {', '.join(_SETTINGS)}; all others are the cluster's."
        )
    return resolve({**given, "python_memory_profile": True})


class Measurement:
    """Measures all tasks that a Dask cluster runs meanwhile; a context manager, or `start` and `stop`.

    Parameters
    ----------
    client : distributed.Client
    app : str
        Name of the run directory.
    settings : Settings
        See `measurement_settings`.
    observers : sequence of Observer
        Informed of all events.

    Attributes
    ----------
    directory : RunDirectory
        After `start`; its `root` is the path of the run directory.
    is_active : bool
        Whether it has started and not ended.

    Raises
    ------
    SettingError, ClusterError
        At `start`, if the measurement cannot take place. Nothing is left behind then.
    """

    def __init__(
        self, client: distributed.Client, app: str, settings: Settings, observers: Sequence[Observer] = ()
    ) -> None:
        self._client = client
        self._own_client: distributed.Client | None = None
        self._app = safe_name(app)
        self._settings = settings
        self._on_memory = checked_policy(settings.on_memory)
        self._observers = [DeathReports(), *observers, *make_extensions(settings.observers, Observer, "--observers")]
        self._lock = threading.Lock()
        self._ended_s: float | None = None
        self._exit_code: int | None = None
        self.is_active = False

    version = runmem_version()
    """That of runmem, which workers must have too."""

    # --- start --------------------------------------------------------------------------------------------------------

    def start(self) -> Measurement:
        """Begin to measure; return this object."""
        self.begin()
        try:
            self.wait_for_workers()
        except BaseException:
            self._end(1)
            self.directory.remove()
            raise
        return self

    def begin(self) -> None:
        """Begin to measure, without waiting for the answers of the workers."""
        if self.is_active:
            raise SettingError("this measurement has started already: end it before you start it again.")
        self._check_client()
        self._run_id = f"{time.strftime('%Y%m%d%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._ended_s = self._exit_code = None
        self.directory = RunDirectory.create(self._app, self._settings.run_folder.absolute())
        try:
            spool = Spool.of_run(self._run_id)
            spool.make()
            spool.remove_old_ones()
            self._now = clock_of(spool.root)
            self._started_s = self._now()
            self._cluster = MeasuredCluster(
                self._client, self._for_workers(), os.getpid(), self.version or "", self._on_memory
            )
            policy = [] if self._on_memory is None else [MemoryPolicy(self._on_memory, self._cluster.give_up)]
            self._recording = Recording(
                self._run_id, self.directory, None, self._settings, [*self._observers, *policy], self._write_run_json
            )
            self._join_itself(spool)
            self._write_run_json()
            self._cluster.join()
            self._collector.add_remote(self._cluster.read, self._cluster.unsure)
            self._collector.start()
        except BaseException:
            end_spool(self._run_id, False)
            end_spool(self._run_id, True)
            self.directory.remove()
            raise
        self.is_active = True
        atexit.register(self._at_exit)

    def wait_for_workers(self) -> None:
        """Wait until the present workers have answered.

        Raises
        ------
        ClusterError
            If none of them can be measured.
        """
        self._cluster.wait_for_reports()

    def _check_client(self) -> None:
        if self._client.status not in ("running", "connecting"):
            raise SettingError(
                f"the client is {self._client.status}: measure() needs one that is connected. Make another with the "
                "address of the scheduler, such as Client('tcp://10.0.0.5:8786')."
            )
        self._refuse_in_its_loop()
        self._address, self._security = address_of(self._client), self._client.security

    def _refuse_in_its_loop(self) -> None:
        """Raise SettingError in the event loop of the client: waiting there for the cluster would never end."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._client.status != "closed" and running is self._client.loop.asyncio_loop:
            raise SettingError(
                "a measurement begins and ends with calls that block, and this is the event loop of an asynchronous "
                "client. In place of `with measure(client)`, call `measured = measure(client)`, then `await "
                "asyncio.to_thread(measured.start)` and at the end `await asyncio.to_thread(measured.stop)`."
            )

    def _connect_again(self) -> distributed.Client:
        """Return another client of the same cluster."""
        with dask.config.set({"distributed.client.preload": []}):  # what the program loads is for its own clients
            self._own_client = distributed.Client(
                self._address, security=self._security, set_as_default=False, timeout=_CONNECT_S
            )
        return self._own_client

    def _close_own_client(self) -> None:
        client, self._own_client = self._own_client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=_CONNECT_S)

    def _for_workers(self) -> RunOnWorkers:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        nodes = {worker["host"] for worker in workers}
        return RunOnWorkers(
            run_id=self._run_id,
            app=self._app,
            host=node_name(),
            spool=str(Spool.of_run(self._run_id).root),
            measures=True,
            interval_s=self._settings.memory_interval_s,
            metric=self._settings.memory_metric,
            workers_a_node=max(1, len(workers) // max(1, len(nodes))),
            on_memory=self._on_memory,
        )

    def _join_itself(self, spool: Spool) -> None:
        """Sample this process too, for the trace of the program."""
        trace = f"mprofile_{time.strftime('%Y%m%d%H%M%S', time.localtime(self._started_s))}.dat"
        with suppress(OSError):
            what, metric = " ".join(sys.argv) or self._app, self._settings.memory_metric
            join(spool.root, os.getpid(), trace, "", what, descendants=False, metric=metric)
            ensure_sampler(spool.root, self._settings.memory_interval_s)

    @property
    def _collector(self) -> Collector:
        return self._recording.collector

    # --- end ----------------------------------------------------------------------------------------------------------

    def stop(self, exit_code: int = 0) -> None:
        """End the measurement, and leave the cluster as it was before; again: nothing.

        Parameters
        ----------
        exit_code : int
            The program's so far, for the record.

        Raises
        ------
        SettingError
            In the event loop of the client, which this would block.
        """
        if self.is_active:
            self._refuse_in_its_loop()
        with self._lock, delayed_signals(note="the measurement is ending; the last values are being collected"):
            if self.is_active:
                self._end(exit_code)

    def _end(self, exit_code: int) -> None:
        self.is_active = False
        atexit.unregister(self._at_exit)
        step, cluster = Steps(self._recording.report_loss), self._cluster
        step("the tasks that run", self._collector.cut_off, _END)
        step("the workers", self._leave)
        step("the samplers of other nodes", cluster.end, False)
        step("the sampler", end_spool, self._run_id, False)
        step("the last measurements", self._collector.finish, False)
        for place, reason in {**cluster.losses, **cluster.refusals(), **cluster.silent, **cluster.unreached()}.items():
            self._recording.report_loss(place, reason)
        step("the spools of other nodes", cluster.end, True)
        step("the spool", end_spool, self._run_id, True)
        cluster.unsubscribe()
        self._close_own_client()
        self._recording.observers.run_ended(RunEnded(exit_code))
        self._ended_s, self._exit_code = self._now(), exit_code
        if step("run.json", self._write_run_json) and not self._recording.recorder.lost:
            step("the copies of the spools", remove_replicas, self.directory)

    def _leave(self) -> None:
        """Remove the plugins, with another client if that of the program is closed."""
        if self._client.status == "closed":
            try:
                self._cluster.use(self._connect_again())
            except Exception:  # the cluster is gone too
                return
        self._cluster.leave()

    def _at_exit(self) -> None:
        with suppress(Exception):
            self.stop()

    def __enter__(self) -> Measurement:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(0 if error is None else 1)

    # --- record -------------------------------------------------------------------------------------------------------

    @property
    def refusals(self) -> list[str]:
        """Descriptions of the workers that are not measured, with the remedy."""
        return [f"{place}: {reason}" for place, reason in self._cluster.refusals().items()]

    def _write_run_json(self) -> bool:
        values: dict[str, object] = {
            "app": self._app,
            "run_id": self._run_id,
            "command": list(sys.argv),
            "folder": os.getcwd(),
            "host": node_name(),
            "pid": os.getpid(),
            "spool": str(Spool.of_run(self._run_id).root),
            "started_s": self._started_s,
            "ended_s": self._ended_s,
            "exit_code": self._exit_code,
            "cluster": f"dask {self._address}",
            "settings": self._settings.describe(),
        }
        return self._recording.write_run_json(values, self._collector.calls_recorded, self._ended_s is not None)
