"""A Dask scheduler in this process, for workers on other hosts."""

from __future__ import annotations

import logging
import shutil
import socket
import sys
from contextlib import suppress
from typing import Any

from runmem.clusters.security import TlsSecurity
from runmem.dask_logging import hide_handlers, set_dask_log_level
from runmem.errors import ClusterError
from runmem.store.scratch import make_scratch, remove_abandoned_scratch

__all__ = ["InProcessScheduler", "local_address_to", "worker_configuration"]


def local_address_to(host: str) -> str:
    """Return this machine's address on the route to `host`; nothing is sent.

    Raises
    ------
    OSError
        If the host is unknown or there is no route to it.
    """
    family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def worker_configuration(measures: bool) -> dict[str, Any]:
    """Return the Dask settings that workers of ours have everywhere."""
    return {
        # Dask's own profiler holds on to the frames of running tasks, and so to memory that a task has given up.
        "distributed.worker.profile.enabled": not measures,
        # A daemonic process may have no children, and a task may want some; workers end with us in any case.
        "distributed.worker.daemon": False,
    }


class InProcessScheduler:
    """Listens on one address of this machine, or on all of them; its dashboard on loopback only.

    Parameters
    ----------
    host : str
        Address to listen on; ``0.0.0.0``: all.
    port : int
        0: any that is free.
    security : TlsSecurity or None

    Attributes
    ----------
    client : distributed.Client or None
    dashboard_token : str or None
        What its dashboard asks for.
    """

    def __init__(self, host: str, port: int, security: TlsSecurity | None) -> None:
        self._host = host
        self._port = port
        self._security = security
        self._cluster: Any = None
        self._folder: str | None = None
        self.client: Any = None
        self.dashboard_token: str | None = None

    def start(self) -> Any:
        """Start it; return a connected `distributed.Client`.

        Raises
        ------
        ClusterError
            If it cannot listen there.
        """
        import dask
        import distributed

        from runmem.clusters.dashboard_pages import WITHOUT_PAGES, WITHOUT_ROUTES, serve_pages

        path = list(sys.path)
        try:
            remove_abandoned_scratch()
            self._folder = str(make_scratch())
            set_dask_log_level(logging.CRITICAL)
            with dask.config.set({"temporary-directory": self._folder, **WITHOUT_ROUTES}), hide_handlers():
                self._cluster = distributed.LocalCluster(
                    n_workers=0,
                    processes=True,
                    host=self._host,
                    scheduler_port=self._port,
                    protocol="tls://" if self._security is not None else "tcp://",
                    security=self._security.dask() if self._security is not None else None,
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs=WITHOUT_PAGES,
                    silence_logs=logging.CRITICAL,
                )
            self.dashboard_token = serve_pages(self._cluster.scheduler)
            self.client = distributed.Client(self._cluster, set_as_default=False)
        except Exception as error:
            self.close()
            raise ClusterError(
                f"the scheduler cannot listen on {self._host}:{self._port} of this machine: {type(error).__name__}: "
                f"{error}. --master_address names another address or port."
            ) from error
        finally:
            sys.path[:] = path  # Dask adds the folder, and the program would import from there
        return self.client

    def address(self, host: str) -> str:
        """Return the address that workers join who reach this machine as `host`."""
        protocol, _, rest = str(self._cluster.scheduler_address).partition("://")
        shown = f"[{host}]" if ":" in host else host
        return f"{protocol}://{shown}:{rest.rpartition(':')[2]}"

    def close(self) -> None:
        """End it. May be called twice, and without `start`."""
        for part in (self.client, self._cluster):
            if part is not None:
                with suppress(Exception):
                    part.close()
        self.client = self._cluster = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
