"""A Dask scheduler in this process."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runmem.clusters.security import TlsSecurity
from runmem.dask_logging import hide_handlers, set_dask_log_level
from runmem.errors import ClusterError
from runmem.store.scratch import make_scratch, remove_abandoned_scratch

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "InProcessScheduler",
    "local_address_to",
    "shared_memory_configuration",
    "split_address",
    "usable_cores",
    "worker_configuration",
    "worker_variables",
]


# Daemonic processes cannot have children, which tasks may start. Workers end with the master in any case.
_NOT_DAEMONIC = {"distributed.worker.daemon": False}


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_address_to(host: str) -> str:
    """Return this machine's address on the route to `host`, without sending anything.

    Raises
    ------
    OSError
        If the host is unknown or there is no route to it.
    """
    family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def split_address(given: str | None) -> tuple[str | None, int]:
    """Return host and port of --master_address; None if it is not given, port 0 (any free one) by default."""
    parts = urlsplit(f"//{given or ''}")
    return parts.hostname, parts.port or 0


def worker_configuration(measures: bool) -> dict[str, object]:
    """Return the Dask settings of all workers that runmem starts."""
    return {
        # Dask's profiler keeps references to the frames of running tasks, and so to memory that a task has freed.
        "distributed.worker.profile.enabled": not measures,
        **_NOT_DAEMONIC,
    }


def shared_memory_configuration(workers: int) -> dict[str, object]:
    """Return the Dask settings of workers each of which may use all memory of its node (--memory_aware).

    Dask writes results to disk when they fill a part of a worker's limit. That stays the part of its equal share:
    results of all workers together would else fill the node more than once.
    """
    import dask

    target = dask.config.get("distributed.worker.memory.target", 0.6)
    return {"distributed.worker.memory.target": target / workers} if target else {}


def worker_variables(measures: bool) -> dict[str, str]:
    """Return `worker_configuration` as environment variables."""
    settings = worker_configuration(measures)
    return {"DASK_" + name.upper().replace(".", "__"): str(value) for name, value in settings.items()}


class InProcessScheduler:
    """A scheduler, and possibly workers, of a Dask cluster object of this process; its dashboard is on loopback.

    Attributes
    ----------
    client : distributed.Client or None
    cluster : distributed.deploy.Cluster or None
    dashboard_token : str or None
    """

    def __init__(self) -> None:
        self._folder: str | None = None
        self._restarts = ExitStack()
        self.cluster: Any = None
        self.client: Client | None = None
        self.dashboard_token: str | None = None

    def start(self, make: Callable[[str], object], configuration: Mapping[str, object]) -> Client:
        """Start a cluster.

        Parameters
        ----------
        make : callable
            Makes the Dask cluster, given a temporary folder (mode 0700).
        configuration : mapping
            Dask's configuration during the start.
        """
        import dask
        import distributed

        from runmem.clusters.dashboard_pages import WITHOUT_ROUTES, serve_pages

        path = list(sys.path)
        try:
            remove_abandoned_scratch()
            self._folder = str(make_scratch())
            # Also for the scheduler: Dask's default folder has a predictable name that another user could create first.
            own = {"temporary-directory": self._folder, **WITHOUT_ROUTES, **configuration}
            with dask.config.set(own), hide_handlers():
                self.cluster = make(self._folder)
            self._restarts.enter_context(dask.config.set(_NOT_DAEMONIC))  # nannies read it when they restart a worker
            self.dashboard_token = serve_pages(self.cluster.scheduler)
            self.client = distributed.Client(self.cluster, set_as_default=False)
        finally:
            sys.path[:] = path  # Dask adds the current folder, which would change the program's imports
        return self.client

    def start_local(
        self, host: str, port: int, protocol: str, security: TlsSecurity | None, **workers: object
    ) -> Client:
        """Start a `distributed.LocalCluster` on an address of this machine."""
        import distributed

        from runmem.clusters.dashboard_pages import WITHOUT_PAGES

        set_dask_log_level(logging.CRITICAL)
        configuration = workers.pop("configuration", {})
        assert isinstance(configuration, Mapping)
        return self.start(
            lambda folder: distributed.LocalCluster(
                processes=True,
                host=host,
                scheduler_port=port,
                protocol=protocol,
                security=security.dask() if security is not None else None,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs=WITHOUT_PAGES,
                silence_logs=logging.CRITICAL,
                local_directory=folder,
                **workers,
            ),
            configuration,
        )

    def start_for_hosts(self, host: str, port: int, security: TlsSecurity | None) -> Client:
        """Start a scheduler for workers on other hosts.

        Parameters
        ----------
        host : str
            Address to listen on; ``0.0.0.0``: all.
        port : int
            0: any free port.
        security : TlsSecurity or None

        Raises
        ------
        ClusterError
            If it cannot listen there.
        """
        try:
            return self.start_local(host, port, "tcp" if security is None else "tls", security, n_workers=0)
        except Exception as error:
            self.close()
            raise ClusterError(
                f"the scheduler cannot listen on {host}:{port} of this machine: {type(error).__name__}: {error}. "
                "--master_address sets another address or port."
            ) from error

    def address(self, host: str) -> str:
        """Return the scheduler's address for workers that reach this machine as `host`."""
        protocol, _, rest = str(self.cluster.scheduler_address).partition("://")
        name = f"[{host}]" if ":" in host else host
        return f"{protocol}://{name}:{rest.rpartition(':')[2]}"

    def close(self) -> None:
        """End the cluster. May be called twice, and without `start`."""
        for part in (self.client, self.cluster):
            if part is not None:
                with suppress(Exception):  # it may have failed to start
                    part.close()
        self.client = self.cluster = None
        self._restarts.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
