"""What the sampler asks of the operating system. Implementations: `linux_processes`, `ps_processes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runmem.node.members import Member

__all__ = ["Processes"]


class Processes(Protocol):
    """Reads the memory of processes and of the processes that they started.

    A descendant belongs to the nearest ancestor that is watched. Nobody's are: a process that was watched before and
    is no longer (a worker on its way out is not its parent's memory), what such a process started, and samplers.
    """

    note: str
    """What a reader of a trace must know of the values; empty when they are what the format's documentation says."""

    least_interval_s: float
    """Reading more often than this, in seconds, gives nothing new."""

    def watch(self, members: Sequence[Member]) -> None:
        """Watch these processes and no others."""

    def refresh(self) -> None:
        """Look for new descendants. Called once a tick, before `tree`."""

    def tree(self, pid: int) -> tuple[int, int] | None:
        """Return the memory of watched process `pid` and its descendants.

        Returns
        -------
        (private_bytes, shared_bytes) or None
            The sum of what each process does not share, and the largest of what each may share; their sum is the
            resident set size when there is no descendant. None when the process itself has ended.
        """

    def changes(self) -> dict[int, tuple[int, int] | None]:
        """Return what `tree` does, of the watched processes for which it may have changed since the last call.

        After `watch` these are all that live. That a process has ended is told once. Called once a tick.
        """
