"""The contract between the sampler and the operating system. Implementations: `linux_processes`, `ps_processes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runmem.node.members import Member

__all__ = ["Processes"]


class Processes(Protocol):
    """Read the memory of watched processes and their descendants.

    A descendant belongs to the nearest watched ancestor. Not counted are processes that are no longer watched (an
    ending worker is not memory of its parent), their descendants, and samplers.
    """

    note: str
    """A remark on the values for readers of a trace; empty if they are as the format's documentation describes."""

    least_interval_s: float
    """Shortest interval, in seconds, at which readings change."""

    def watch(self, members: Sequence[Member]) -> None:
        """Watch exactly these processes."""

    def refresh(self) -> None:
        """Find new descendants. Called once a tick, before `tree`."""

    def tree(self, pid: int) -> tuple[int, int] | None:
        """Return the memory of watched process `pid` and its descendants.

        Returns
        -------
        (private_bytes, shared_bytes) or None
            The sum of the memory that each process does not share, and the largest memory that one may share. Without
            descendants the two add up to the resident set size. None if the process itself has ended.
        """

    def changes(self) -> dict[int, tuple[int, int] | None]:
        """Return the results of `tree` that may have changed since the last call, by watched process.

        After `watch` these are all living processes. The end of a process is reported once. Called once a tick.
        """

    def children(self) -> dict[int, tuple[int | None, bytes]]:
        """Return the memory of the children of tasks at the last call of `changes`, by watched process.

        Returns
        -------
        dict of (size_bytes, command)
            Their memory together, with what they share counted once where that is known, None if that of one cannot be
            read; and the command with the largest share of it, in one word. A process without children is missing.
        """

    def notes(self) -> list[str]:
        """Return remarks on the values since the last call, for readers of the traces."""

    def owner(self, pid: int) -> int | None:
        """Return the watched process to which process `pid` belongs, itself or as a descendant; None: to none."""
