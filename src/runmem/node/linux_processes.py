"""Read the memory of watched processes and their descendants from ``/proc``, in some microseconds for each process.

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

import os
from itertools import repeat

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from runmem.node.descendants import LOOK_SHARE, SCAN_SHARE, Descendants
    from runmem.node.proc_files import command_line, read_file, start_of
    from runmem.node.task_children import UNKNOWN, TaskChildren
else:  # started by path
    from descendants import LOOK_SHARE, SCAN_SHARE, Descendants
    from proc_files import command_line, read_file, start_of
    from task_children import UNKNOWN, TaskChildren

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runmem.node.members import Member

__all__ = ["LinuxProcesses"]

SAMPLER = b"/node/sampler.py"
_STATM_BYTES = 96


class LinuxProcesses:
    """Read ``/proc/<pid>/statm`` through open descriptors, and find descendants by their process ids.

    Limitations
    -----------
    A descendant counts from the tick after the one that found it. Until exec, a forked child seems as large as its
    parent, and would show a peak that does not exist. So a child that lives for less than two ticks is missed. A
    descendant whose parent ended before it was first seen (a daemon) is not found. Copy-on-write pages that a forked
    child still shares with its parent are anonymous memory and count in both; file-backed and shared memory counts once
    for each tree, as that of the process with most of it.
    """

    least_interval_s = 0.0

    def __init__(
        self, proc: str = "/proc", scan_share: float = SCAN_SHARE, look_share: float | None = None, note: str = ""
    ) -> None:
        self.note = f"{note}values are resident set sizes" if note else ""
        self._proc = proc
        look_share = max(LOOK_SHARE, 2 * scan_share) if look_share is None else look_share
        self._descendants = Descendants(proc, scan_share, look_share)
        self._of_tasks = TaskChildren(proc, self._descendants.parent)
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._statm: dict[int, int] = {}  # process -> open descriptor
        self._trees: dict[int, list[int]] = {}  # living member -> itself and its descendants
        self._members: dict[int, Member] = {}
        self._newborn: list[int] = []
        self._alone: list[int] | None = None  # members without descendants; None if unknown
        self._descriptors: list[int] = []  # of `_alone`
        self._reads: list[bytes] = []  # of `_alone`, at the last call of `changes`
        self._reported: dict[int, tuple[int, int]] = {}  # members with descendants -> memory in the last `changes`
        # Of members with descendants, while these do not change: the reads of all, the tree, the children.
        self._trees_read: dict[int, tuple[list[bytes], tuple[int, int] | None, tuple[int | None, bytes] | None]] = {}
        self._children: dict[int, tuple[int | None, bytes]] = {}

    def watch(self, members: Sequence[Member]) -> None:
        """Watch exactly these processes; known descendants are kept."""
        new = {member.pid: member for member in members}
        self._members = new
        self._trees = {pid: [pid] for pid, member in new.items() if self._open(pid, member.start)}
        self._newborn = []
        self._alone = None
        self._trees_read = {}
        for pid in new:  # it may have been a descendant until now
            self._of_tasks.discard(pid)
        for pid in self._descendants.watch(new):
            if (owner := self._owner(pid)) is None:
                continue
            if pid in self._statm:
                self._trees[owner].append(pid)
            else:
                self._newborn.append(pid)
        for pid in self._statm.keys() - {pid for tree in self._trees.values() for pid in tree}:
            self._close(pid)

    def refresh(self) -> None:
        """Count the descendants found by the last call, and find new ones if there may be any."""
        for pid in sorted(self._newborn):  # parents first
            self._adopt(pid)
        self._newborn = self._descendants.find()

    def changes(self) -> dict[int, tuple[int, int] | None]:
        """Return the results of `tree` that may have changed since the last call, by watched process.

        At 10 Hz the caches are cold each time, and the cost is the amount of code that runs. One `map` reads all
        processes and compares bytes, so that no Python code runs for a process without changes.
        """
        if self._alone is None:
            self._find_alone()
        alone = self._alone or []
        try:
            reads = list(map(os.pread, self._descriptors, repeat(_STATM_BYTES), repeat(0)))
        except OSError:  # one of them has ended and was reaped
            reads = [self._read_statm(pid) for pid in alone]
        changed: dict[int, tuple[int, int] | None] = {}
        if reads != self._reads:
            for pid, read, last in zip(alone, reads, self._reads, strict=True):
                if read != last:
                    changed[pid] = self._sizes(pid, read)
            self._reads = reads
        self._children = {}
        for pid in list(self._reported):
            tree = self.tree(pid)
            if tree != self._reported.get(pid):
                changed[pid] = tree
            if tree is not None:
                self._reported[pid] = tree
        return changed

    def children(self) -> dict[int, tuple[int | None, bytes]]:
        """Return the memory of the children of tasks at the last call of `changes`, by watched process."""
        return self._children

    def owner(self, pid: int) -> int | None:
        """Return the watched process to which `pid` belongs."""
        return pid if pid in self._trees else self._owner(pid)

    def notes(self) -> list[str]:
        """Return the remarks since the last call."""
        notes, self._of_tasks.notes = self._of_tasks.notes, []
        return notes

    def _find_alone(self) -> None:
        """Find the members without descendants; all count as changed."""
        self._alone = [pid for pid, tree in self._trees.items() if len(tree) == 1]
        self._descriptors = [self._statm[pid] for pid in self._alone]
        self._reads = [b""] * len(self._alone)
        self._reported = {pid: (-1, -1) for pid, tree in self._trees.items() if len(tree) > 1}

    def _sizes(self, pid: int, read: bytes) -> tuple[int, int] | None:
        """Return private and shared bytes of a member without descendants, from its ``statm``."""
        _, resident, shared, _ = read.split(None, 3)
        if resident == b"0":  # a zombie
            self._forget(pid, [pid])
            return None
        shared_pages = int(shared)
        return (int(resident) - shared_pages) * self._page, shared_pages * self._page

    def _read_statm(self, pid: int) -> bytes:
        """Return the ``statm`` of a process; zeros if it has ended, as for a zombie."""
        try:
            return os.pread(self._statm[pid], _STATM_BYTES, 0)
        except OSError:  # ESRCH: it has ended and was reaped
            return b"0 0 0 0"

    def tree(self, pid: int) -> tuple[int, int] | None:
        tree = self._trees.get(pid)
        if tree is None:
            return None
        reads = [self._read_statm(each) for each in tree]
        before = self._trees_read.get(pid)
        if before is None or before[0] != reads:
            self._trees_read.pop(pid, None)
            before = reads, self._sum_tree(pid, tree, reads), self._children.get(pid)
            if before[1] is not None and (before[2] is None or before[2][1] != UNKNOWN):
                self._trees_read[pid] = before
        elif before[2] is not None:
            self._children[pid] = before[2]
        return before[1]

    def _sum_tree(self, pid: int, tree: list[int], reads: list[bytes]) -> tuple[int, int] | None:
        """Return what `tree` does, and note the memory of the children, from the ``statm`` of each process."""
        private = most_shared = 0
        ended = []
        children: list[tuple[int, int, int]] = []
        for each, read in zip(tree, reads, strict=True):
            _, resident, shared, _ = read.split(None, 3)
            if resident == b"0":
                ended.append(each)
                continue
            shared_pages = int(shared)
            private_pages = int(resident) - shared_pages
            private += private_pages
            if shared_pages > most_shared:
                most_shared = shared_pages
            if each in self._of_tasks:
                children.append((each, private_pages, shared_pages))
        if children:
            pages, command = self._of_tasks.sum_of(children)
            self._children[pid] = pages * self._page, command
        if ended:
            self._forget(pid, ended)
        return None if pid in ended else (private * self._page, most_shared * self._page)

    def _forget(self, member: int, ended: list[int]) -> None:
        self._alone = None
        if member in ended:
            ended = self._trees.pop(member)  # with its living descendants: the series ends with the member
        else:
            self._trees[member] = [pid for pid in self._trees[member] if pid not in ended]
        for pid in ended:
            self._close(pid)

    def _open(self, pid: int, start: int | None = None) -> bool:
        """Open a descriptor for `pid`; return False if it has ended or its id was reused."""
        if pid in self._statm:
            return True
        try:
            folder = os.open(f"{self._proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:  # all files below one folder descriptor belong to one process, even if its id is reused
            if start is not None and start_of(folder) != start:
                return False
            self._statm[pid] = os.open("statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
            return True
        except (OSError, ValueError, IndexError):
            return False
        finally:
            os.close(folder)

    def _close(self, pid: int) -> None:
        descriptor = self._statm.pop(pid, None)
        if descriptor is not None:
            os.close(descriptor)
        self._of_tasks.discard(pid)

    def _is_process(self, pid: int) -> bool:
        """Return False for the id of a thread, whose parent is that of its process."""
        try:
            return b"\nTgid:\t%d\n" % pid in read_file(f"{self._proc}/{pid}/status")
        except OSError:
            return False

    def _owner(self, pid: int) -> int | None:
        """Return the living member whose tree includes `pid`."""
        member = self._descendants.member(pid)
        return member if member in self._trees else None

    def _adopt(self, pid: int) -> None:
        """Count a new descendant, unless it is a thread or a sampler."""
        if (owner := self._owner(pid)) is None:
            return
        command = command_line(self._proc, pid)
        if SAMPLER in command or not self._is_process(pid) or not self._open(pid):
            return
        self._trees[owner].append(pid)
        self._alone = None
        is_forked = self._members[owner].forks_calls and self._descendants.parent(pid) == owner
        self._of_tasks.add(pid, command, is_forked)
