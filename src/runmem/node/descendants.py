"""Find the descendants of watched processes, by the numbers of new processes.

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from runmem.node.proc_files import parent_of
else:  # started by path
    from proc_files import parent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runmem.node.members import Member

__all__ = ["LOOK_SHARE", "SCAN_SHARE", "Descendants"]

SCAN_SHARE = 0.0005
"""Of a core, for listing processes."""
LOOK_SHARE = 0.003
"""Of a core, for looking at new ones: some 0.2 s apart where a look takes 0.6 ms, as on a virtual machine."""

_RESCAN_S = 5.0  # longest time between scans, for systems whose loadavg lacks the last process id
_MOST_NEW = 256  # processes and threads of a tick to look at one by one
_LOOKS = 2  # at the id of a process that is not there: while a large process forks, its child has an id only
_MOST_GENERATIONS = 64  # between a process and its member; a limit, because stale links could form a cycle


class Descendants:
    """Know the parents of all processes.

    Parameters
    ----------
    proc : str
        Where ``/proc`` is.
    scan_share, look_share : float
        Shares of a core for listing processes, and for looking at new ones.

    Assumptions
    -----------
    The kernel's last process id, in ``/proc/loadavg``, goes up by one with each process or thread: the new ones are
    those between it and the one before. ``/proc`` is listed only where that is not known, after very many, and every
    five seconds. The parent of a process is read once, when it is first seen.
    """

    def __init__(self, proc: str, scan_share: float, look_share: float) -> None:
        self._proc = proc
        self._scan_share = scan_share
        self._look_share = look_share
        self._members: Mapping[int, Member] = {}
        self._former: set[int] = set()
        self._parents: dict[int, int] = {}
        self._names: set[str] = set()
        self._last_pid: int | None = None
        self._unseen: dict[int, int] = {}  # new id without a process -> looks left
        self._scan_due = self._rescan_due = self._look_due = 0.0
        try:
            self._loadavg: int | None = os.open(f"{proc}/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._loadavg = None

    def watch(self, members: Mapping[int, Member]) -> list[int]:
        """Watch exactly these processes; return those of their descendants that are known."""
        self._former |= self._members.keys() - members.keys()
        self._former -= members.keys()
        self._members = members
        return self._of_members(self._parents)

    def find(self) -> list[int]:
        """Return new descendants, if there may be any; threads are among them."""
        now = time.perf_counter()
        last_pid = self._read_last_pid()
        if last_pid is not None and self._last_pid is not None and now < self._rescan_due:
            new = last_pid - self._last_pid
            if 0 <= new <= _MOST_NEW:
                found = []
                if (new or self._unseen) and now >= self._look_due:
                    began_s = time.thread_time()
                    found = self._look_at(range(self._last_pid + 1, last_pid + 1))
                    self._look_due = now + (time.thread_time() - began_s) / self._look_share
                    self._last_pid = last_pid
                return found
        if now < self._scan_due:
            return []
        self._last_pid = last_pid
        self._unseen = {}
        began_s = time.thread_time()
        found = self._scan()
        self._scan_due = now + (time.thread_time() - began_s) / self._scan_share
        self._rescan_due = max(self._scan_due, now + _RESCAN_S)
        return found

    def parent(self, pid: int) -> int:
        """Return the parent of a process; 0 if it is not known."""
        return self._parents.get(pid, 0)

    def member(self, pid: int) -> int | None:
        """Return the watched process, living or not, to whose tree `pid` belongs as a descendant; None: to none."""
        if pid in self._former:
            return None
        parent = self._parents.get(pid, 0)
        for _ in range(_MOST_GENERATIONS):
            member = self._members.get(parent)
            if member is not None:
                return parent if member.descendants else None
            if not parent or parent in self._former:
                return None
            parent = self._parents.get(parent, 0)
        return None

    def _of_members(self, pids: Iterable[int]) -> list[int]:
        return [pid for pid in pids if pid not in self._members and self.member(pid) is not None]

    def _read_last_pid(self) -> int | None:
        if self._loadavg is None:
            return None
        try:
            return int(os.pread(self._loadavg, 96, 0).rpartition(b" ")[2])
        except (OSError, ValueError):
            return None

    def _look_at(self, new: Iterable[int]) -> list[int]:
        """Read the parents of the processes among new ids, which are also those of threads."""
        looks = {**self._unseen, **dict.fromkeys(new, _LOOKS)}
        self._unseen = {}
        found = []
        for pid, left in looks.items():
            parent = parent_of(self._proc, pid)
            if parent is None:
                if left > 1:
                    self._unseen[pid] = left - 1
                continue
            self._parents[pid] = parent
            self._names.add(str(pid))
            found.append(pid)
        return self._of_members(found)

    def _scan(self) -> list[int]:
        """Read the parent of every process that is new since the last scan."""
        names = set(os.listdir(self._proc))
        for pid in _numbers(self._names - names):
            self._parents.pop(pid, None)
        self._former = {pid for pid in self._former if str(pid) in names}
        new = _numbers(names - self._names)
        self._names = names
        for pid in new:
            if (parent := parent_of(self._proc, pid)) is not None:
                self._parents[pid] = parent
        return self._of_members(new)


def _numbers(names: set[str]) -> list[int]:
    return [int(name) for name in names if name.isdigit()]
