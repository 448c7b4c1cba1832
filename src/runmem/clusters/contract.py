"""The contract of every kind of cluster."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from runmem.settings import Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster"]

_WORKER_POLL_S = 0.05


class Cluster(ABC):
    """Workers that run tasks.

    A kind that starts workers on other hosts protects them by `runmem.clusters.security.run_security`: TLS with a
    certificate of the run, or nothing if the user insists.

    Attributes
    ----------
    kind : str
        Name in `runmem.clusters.CLUSTERS` and of ``--cluster``.
    lazy : bool
        Whether it may start at the first call of a task, rather than before the program.
    ours : bool
        Whether runmem starts its workers, for this run alone and with output on this terminal.
    starts_nodes : bool
        Whether runmem starts all workers of a node together, and so can let each use all of its memory.
    chosen_by : tuple of str
        Fields of `Settings` that select this kind and have no meaning for others.
    dashboard_token : str or None
        Token of the dashboard, if runmem started the cluster.
    """

    kind: ClassVar[str]
    lazy: ClassVar[bool] = False
    ours: ClassVar[bool] = True
    chosen_by: ClassVar[tuple[str, ...]] = ()
    starts_nodes: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dashboard_token: str | None = None
        self._client: Client | None = None

    @property
    def shares_memory(self) -> bool:
        """Whether the memory limit of each worker is that of all workers of its node together."""
        return self.settings.memory_aware and self.starts_nodes

    def taken_bytes(self) -> int:
        """Return the memory that the program takes of what the workers of its node may use together."""
        return 0

    def connect(self) -> Client:
        """Start or reach the cluster if necessary; return a client when at least one worker is ready.

        Raises
        ------
        SettingError, ClusterError
            If it cannot be started or reached, or cannot run this program; includes the remedy.
        """
        if self._client is None:
            try:
                self._start()
            except BaseException:
                self.close(abandon=True)
                raise
        return self._client

    @abstractmethod
    def _start(self) -> None:
        """Start or reach the cluster, set `_client` and wait for a worker. If it raises, `close` is called."""

    def _wait_for_worker(self, check: Callable[[], None]) -> None:
        """Wait for the first worker; `check` is called repeatedly and raises if no worker will join."""
        assert self._client is not None
        while not self._client.scheduler_info(n_workers=-1)["workers"]:
            check()
            time.sleep(_WORKER_POLL_S)

    def dashboard(self, client: Client) -> str | None:
        """Return the address of the Dask dashboard with its token, None if there is no dashboard.

        Dask gives the host of the scheduler, but the dashboards of clusters that runmem starts are on loopback.
        """
        link = client.dashboard_link
        if link is None:
            return None
        link = str(link)
        host = urlsplit(client.scheduler.address).hostname
        if self.ours and host is not None and urlsplit(link).hostname == host:
            link = link.replace(f"[{host}]" if ":" in host else host, "127.0.0.1", 1)
        if self.dashboard_token is None:
            return link
        return f"{link}{'&' if '?' in link else '?'}token={self.dashboard_token}"

    def end_workers(self) -> bool:
        """Kill the workers and prevent restarts; return True if no worker is left.

        Only for workers that are child processes; other kinds return False.
        """
        return False

    @abstractmethod
    def close(self, abandon: bool = False) -> None:
        """End everything that `connect` started, and nothing else. May be called twice, and without `connect`.

        Parameters
        ----------
        abandon : bool
            Whether unwanted tasks may still run: workers that runmem started are then killed.
        """
