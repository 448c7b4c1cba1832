"""What every kind of cluster offers a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from runmem.settings import Settings

__all__ = ["Cluster"]


class Cluster(ABC):
    """Workers to run tasks on.

    Attributes
    ----------
    kind : str
        Its name in `runmem.clusters.CLUSTERS`.
    lazy : bool
        Whether it may be started when the first task is called, rather than before the program.
    """

    kind: ClassVar[str]
    lazy: ClassVar[bool]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def connect(self) -> Any:
        """Start or reach the cluster; return a connected `distributed.Client` when at least one worker is ready.

        Raises
        ------
        ClusterError
            If it cannot be started or reached, or cannot run this program; says what to do.
        """

    @abstractmethod
    def close(self, abandon: bool = False) -> None:
        """End what `connect` started, and nothing else. May be called twice, and without `connect`.

        Parameters
        ----------
        abandon : bool
            Whether tasks may still run that nobody wants: workers of ours are then ended at once.
        """
