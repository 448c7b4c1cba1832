"""Distinguish the children of tasks from other descendants of a worker, and name their commands.

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from runmem.node.proc_files import command_line
else:  # started by path
    from proc_files import command_line

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UNKNOWN", "TaskChildren"]

UNKNOWN = b"(unknown)"
"""The name of a command that cannot be read yet."""

_PREPARED = b"runmem.worker.isolation.prepared_process"  # it forks the processes of tasks
_OF_WORKERS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver", b"/commands/supervisor.py")
_SHARED_PAGES = (
    "rss-sum: tasks run in forked processes: what these share counts in each (--memory_metric=pss divides it)"
)
_INTERPRETER = re.compile(rb"(python|perl|ruby|R|Rscript|julia|node|(ba|z|da|k)?sh)[\d.]*$").match
_MOST_NAME = 80
_NEW_NAME_PAGES = 256  # a process of this size that has doubled or halved may have called exec


class TaskChildren:
    """The descendants that count as children of a task.

    Not counted are helpers: processes that runmem or `multiprocessing` start for themselves, and those that are forked
    to run a task.

    Parameters
    ----------
    proc : str
        Where ``/proc`` is.
    parent : callable
        Returns the parent of a process.

    Attributes
    ----------
    notes : list of str
        Remarks for the traces; the caller empties it.
    """

    def __init__(self, proc: str, parent: Callable[[int], int]) -> None:
        self._proc = proc
        self._parent = parent
        self._helpers: set[int] = set()
        self._prepared: set[int] = set()  # helpers that fork the processes of tasks
        self._has_noted = False
        self.notes: list[str] = []
        self._names: dict[int, tuple[bytes, int]] = {}  # child of a task -> command, pages when it was read

    def __contains__(self, pid: int) -> bool:
        """Return True if a process is a child of a task."""
        return pid in self._names

    def add(self, pid: int, command: bytes, runs_call: bool) -> None:
        """Add a descendant.

        Parameters
        ----------
        command : bytes
            Its command line.
        runs_call : bool
            Whether its worker has forked it to run a call.
        """
        parent = self._parent(pid)
        if _PREPARED in command and parent not in self._prepared and parent not in self._helpers:
            self._prepared.add(pid)
        elif parent in self._prepared or runs_call:
            self._helpers.add(pid)
            if not self._has_noted:
                self._has_noted = True
                self.notes.append(_SHARED_PAGES)
        elif any(helper in command for helper in _OF_WORKERS):
            self._helpers.add(pid)
        else:
            self._name(pid, 0)

    def discard(self, pid: int) -> None:
        """Remove a process that has ended, or is watched itself from now on."""
        self._names.pop(pid, None)
        self._helpers.discard(pid)
        self._prepared.discard(pid)

    def sum_of(self, children: list[tuple[int, int, int]]) -> tuple[int, bytes]:
        """Return the pages of children together, and the command with the largest share of them.

        Parameters
        ----------
        children : list of (pid, private, shared)
            With their pages. What they share counts once.
        """
        shares: dict[bytes, int] = {}
        total = most_shared = 0
        for pid, private, shared in children:
            name, pages = self._names[pid]
            may_be_new = private >= _NEW_NAME_PAGES and not pages <= 2 * private <= 4 * pages
            if may_be_new or name == UNKNOWN:  # it has called exec, or was about to
                name = self._name(pid, private)
            shares[name] = shares.get(name, 0) + private + shared
            total += private
            most_shared = max(most_shared, shared)
        return total + most_shared, max(shares, key=lambda name: shares[name])

    def _name(self, pid: int, pages: int) -> bytes:
        """Read the command of a child; return its name."""
        name = _command_name(command_line(self._proc, pid), command_line(self._proc, self._parent(pid)))
        self._names[pid] = name, pages
        return name


def _command_name(command: bytes, of_parent: bytes) -> bytes:
    """Return a name for a command line, in one word: its program, and the script that an interpreter runs."""
    if command == of_parent:
        return b"(forked)"
    words = command.split(b"\0")
    name = os.path.basename(words[0]) or UNKNOWN
    if b"from multiprocessing." in command:
        name += b":multiprocessing"
    elif len(words) > 2 and words[1] and not words[1].startswith(b"-") and _INTERPRETER(name):
        name += b":" + os.path.basename(words[1])
    return b"_".join(name.split())[:_MOST_NAME]
