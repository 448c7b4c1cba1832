"""Reports to the master what a process could not measure or write."""

from __future__ import annotations

import os
from collections.abc import Callable

from runmem.store.append import LineAppender
from runmem.worker.task_output import unwritten

__all__ = ["Losses"]


class Losses:
    """The losses of a process; each is reported at its first time, and when it has grown much.

    Parameters
    ----------
    node : str
        Host name.
    notify : callable
        Sends a message to the master.
    """

    def __init__(self, node: str, notify: Callable[[dict[str, object]], None]) -> None:
        self._node = node
        self._notify = notify
        self._next_lines = 1
        self._next_unwritten_bytes = unwritten().size_bytes + 1

    def report(self, reason: str, place: str | None = None) -> None:
        """Report a loss; `place`: where, by default this process."""
        self._notify({"place": place or f"worker process {os.getpid()} on node {self._node}", "lost": reason})

    def report_output(self) -> None:
        """Report output of tasks that was lost, if that is more than was reported."""
        lost = unwritten()
        if lost.size_bytes >= self._next_unwritten_bytes:
            self._next_unwritten_bytes = lost.size_bytes + lost.size_bytes // 4 + 1  # at most so much goes unreported
            self._notify({"unwritten": [*lost], "node": self._node, "pid": os.getpid()})

    def report_lines(self, lines: LineAppender) -> None:
        """Report lines about tasks that were lost: the first, and whenever they are twice as many."""
        count = lines.lost_lines
        if count >= self._next_lines:
            self._next_lines = 2 * count  # the scheduler keeps all messages
            reason = f"at least {count} lines about tasks could not be written (disk full?), on node {self._node}"
            self._notify({"place": str(lines.path), "lost": reason, "node": self._node, "pid": os.getpid()})
