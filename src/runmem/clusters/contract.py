"""What every kind of cluster offers a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar
from urllib.parse import urlsplit

from runmem.settings import Settings

__all__ = ["Cluster"]


class Cluster(ABC):
    """Workers to run tasks on.

    A kind whose workers run on other hosts starts them with what `runmem.clusters.security.run_security` gives: TLS
    with a certificate of the run, or nothing when the user insists.

    Attributes
    ----------
    kind : str
        Its name in `runmem.clusters.CLUSTERS`, which is what ``--cluster`` takes.
    lazy : bool
        Whether it may be started when the first task is called, rather than before the program.
    ours : bool
        Whether its workers are there for this run alone, and write to this terminal.
    chosen_by : tuple of str
        Fields of `Settings` that ask for this kind and mean nothing to another.
    dashboard_token : str or None
        What the dashboard of a cluster of ours asks for, once it is there.
    """

    kind: ClassVar[str]
    lazy: ClassVar[bool]
    ours: ClassVar[bool] = True
    chosen_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dashboard_token: str | None = None

    @abstractmethod
    def connect(self) -> Any:
        """Start or reach the cluster; return a connected `distributed.Client` when at least one worker is ready.

        Raises
        ------
        SettingError, ClusterError
            If it cannot be started or reached, or cannot run this program; says what to do.
        """

    def dashboard(self, client: Any) -> str | None:
        """Return where the Dask dashboard is, with its token; None: there is none.

        That of a cluster of ours is on loopback, which Dask does not say.
        """
        link = client.dashboard_link
        host = urlsplit(client.scheduler.address).hostname
        if not self.ours or link is None or host is None or urlsplit(link).hostname != host:
            return self._with_token(str(link)) if link is not None else None
        return self._with_token(str(link).replace(f"[{host}]" if ":" in host else host, "127.0.0.1", 1))

    def _with_token(self, link: str) -> str:
        if self.dashboard_token is None:
            return link
        return f"{link}{'&' if '?' in link else '?'}token={self.dashboard_token}"

    def end_workers(self) -> bool:
        """End the workers at once, whatever they do, and start no others; return whether none is left that could run.

        For a cluster whose workers are processes of this one; others return False and go on.
        """
        return False

    @abstractmethod
    def close(self, abandon: bool = False) -> None:
        """End what `connect` started, and nothing else. May be called twice, and without `connect`.

        Parameters
        ----------
        abandon : bool
            Whether tasks may still run that nobody wants: workers of ours are then ended at once.
        """
