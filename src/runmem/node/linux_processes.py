"""Read the memory of watched processes and their descendants from ``/proc``, in some microseconds for each process.

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

import os
import re
import time
from itertools import repeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runmem.node.members import Member

__all__ = ["LinuxProcesses", "read_file"]

SAMPLER = b"/node/sampler.py"
_PREPARED = b"runmem.worker.isolation.prepared_process"  # it forks the processes of tasks
_OF_WORKERS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver", b"/commands/supervisor.py")
_SHARED = "rss-sum: tasks run in forked processes: what these share counts in each (--memory_metric=pss divides it)"
_INTERPRETER = re.compile(rb"(python|perl|ruby|R|Rscript|julia|node|(ba|z|da|k)?sh)[\d.]*$").match
_MOST_NAME = 80
_NEW_NAME_PAGES = 256  # a process of this size that has doubled or halved may have called exec
_UNKNOWN = b"(unknown)"
_SCAN_SHARE = 0.0005  # of a core, for listing processes
_LOOK_SHARE = 0.001  # of a core, for looking at new ones
_RESCAN_S = 5.0  # longest time between scans, for systems whose loadavg lacks the last process id
_STATM_BYTES = 96
_MOST_NEW = 256  # processes and threads of a tick to look at one by one
_LOOKS = 2  # at the id of a process that is not there: while a large process forks, its child has an id only
_MOST_GENERATIONS = 64  # between a process and its member; a limit, because stale links could form a cycle


class LinuxProcesses:
    """Read ``/proc/<pid>/statm`` through open descriptors, and find descendants by their process ids.

    Assumptions
    -----------
    The kernel's last process id, in ``/proc/loadavg``, goes up by one with each process or thread: the new ones are
    those between it and the one before. ``/proc`` is listed only where that is not known, after very many, and every
    five seconds. The parent of a process is read once, when it is first seen.

    Limitations
    -----------
    A descendant counts from the tick after the one that found it. Until exec, a forked child seems as large as its
    parent, and would show a peak that does not exist. So a child that lives for less than two ticks is missed. A
    descendant whose parent ended before it was first seen (a daemon) is not found. Copy-on-write pages that a forked
    child still shares with its parent are anonymous memory and count in both; file-backed and shared memory counts once
    for each tree, as that of the process with most of it.

    Children of a task are the descendants without the member itself and without helpers: processes that runmem or
    `multiprocessing` start for themselves, and those that are forked to run a task.
    """

    least_interval_s = 0.0

    def __init__(
        self, proc: str = "/proc", scan_share: float = _SCAN_SHARE, look_share: float | None = None, note: str = ""
    ) -> None:
        self.note = f"{note}values are resident set sizes" if note else ""
        self._proc = proc
        self._scan_share = scan_share
        self._look_share = max(_LOOK_SHARE, 2 * scan_share) if look_share is None else look_share
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._statm: dict[int, int] = {}  # process -> open descriptor
        self._trees: dict[int, list[int]] = {}  # living member -> itself and its descendants
        self._members: dict[int, Member] = {}
        self._former: set[int] = set()
        self._parents: dict[int, int] = {}
        self._newborn: list[int] = []
        self._alone: list[int] | None = None  # members without descendants; None if unknown
        self._descriptors: list[int] = []  # of `_alone`
        self._reads: list[bytes] = []  # of `_alone`, at the last call of `changes`
        self._reported: dict[int, tuple[int, int]] = {}  # members with descendants -> memory in the last `changes`
        # Of members with descendants, while these do not change: the reads of all, the tree, the children.
        self._trees_read: dict[int, tuple[list[bytes], tuple[int, int] | None, tuple[int | None, bytes] | None]] = {}
        self._helpers: set[int] = set()  # descendants that are not children of a task
        self._prepared: set[int] = set()  # helpers that fork the processes of tasks
        self._names_of: dict[int, tuple[bytes, int]] = {}  # child of a task -> command, pages when it was read
        self._children: dict[int, tuple[int | None, bytes]] = {}
        self._remarks: list[str] = []
        self._has_remarked = False
        self._names: set[str] = set()
        self._last_pid: int | None = None
        self._unseen: dict[int, int] = {}  # new id without a process -> looks left
        self._scan_due = self._rescan_due = self._look_due = 0.0
        try:
            self._loadavg: int | None = os.open(f"{proc}/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._loadavg = None

    def watch(self, members: Sequence[Member]) -> None:
        """Watch exactly these processes; known descendants are kept."""
        new = {member.pid: member for member in members}
        self._former |= self._members.keys() - new.keys()
        self._former -= new.keys()
        self._members = new
        self._trees = {pid: [pid] for pid, member in new.items() if self._open(pid, member.start)}
        self._newborn = []
        self._alone = None
        self._trees_read = {}
        for pid in new:  # it may have been a descendant until now
            self._names_of.pop(pid, None)
            self._helpers.discard(pid)
            self._prepared.discard(pid)
        for pid in self._parents.keys() - new.keys():
            owner = self._owner(pid)
            if owner is not None and pid in self._statm:
                self._trees[owner].append(pid)
            elif owner is not None:
                self._newborn.append(pid)
        for pid in self._statm.keys() - {pid for tree in self._trees.values() for pid in tree}:
            self._close(pid)

    def refresh(self) -> None:
        """Count the descendants found by the last call, and find new ones if there may be any."""
        found, self._newborn = self._newborn, []
        for pid in sorted(found):  # parents first
            self._adopt(pid)
        now = time.perf_counter()
        last_pid = self._read_last_pid()
        if last_pid is not None and self._last_pid is not None and now < self._rescan_due:
            new = last_pid - self._last_pid
            if 0 <= new <= _MOST_NEW:
                if (new or self._unseen) and now >= self._look_due:
                    began_s = time.thread_time()
                    self._look_at(range(self._last_pid + 1, last_pid + 1))
                    self._look_due = now + (time.thread_time() - began_s) / self._look_share
                    self._last_pid = last_pid
                return
        if now < self._scan_due:
            return
        self._last_pid = last_pid
        self._unseen = {}
        began_s = time.thread_time()
        self._scan()
        self._scan_due = now + (time.thread_time() - began_s) / self._scan_share
        self._rescan_due = max(self._scan_due, now + _RESCAN_S)

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
        remarks, self._remarks = self._remarks, []
        return remarks

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
            if before[1] is not None and (before[2] is None or before[2][1] != _UNKNOWN):
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
            if each in self._names_of:
                children.append((each, private_pages, shared_pages))
        if children:
            self._children[pid] = self._sum_of(children)
        if ended:
            self._forget(pid, ended)
        return None if pid in ended else (private * self._page, most_shared * self._page)

    def _sum_of(self, children: list[tuple[int, int, int]]) -> tuple[int, bytes]:
        """Return the memory of child processes in bytes, and the command with the largest share of it."""
        shares: dict[bytes, int] = {}
        total = most_shared = 0
        for pid, private, shared in children:
            name, pages = self._names_of[pid]
            may_be_new = private >= _NEW_NAME_PAGES and not pages <= 2 * private <= 4 * pages
            if may_be_new or name == _UNKNOWN:  # it has called exec, or was about to
                name = self._name(pid, private)
            shares[name] = shares.get(name, 0) + private + shared
            total += private
            most_shared = max(most_shared, shared)
        return (total + most_shared) * self._page, max(shares, key=lambda name: shares[name])

    def _name(self, pid: int, pages: int) -> bytes:
        """Read the command of a child; return its name."""
        name = _command_name(self._command_line(pid), self._command_line(self._parents.get(pid, 0)))
        self._names_of[pid] = name, pages
        return name

    def _command_line(self, pid: int) -> bytes:
        try:
            return read_file(f"{self._proc}/{pid}/cmdline")
        except OSError:
            return b""

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
            if start is not None and int(_stat_fields(read_file("stat", folder))[19]) != start:
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
        self._names_of.pop(pid, None)
        self._helpers.discard(pid)
        self._prepared.discard(pid)

    def _read_last_pid(self) -> int | None:
        if self._loadavg is None:
            return None
        try:
            return int(os.pread(self._loadavg, 96, 0).rpartition(b" ")[2])
        except (OSError, ValueError):
            return None

    def _look_at(self, new: Iterable[int]) -> None:
        """Read the parents of the processes among new ids, which are also those of threads."""
        looks = {**self._unseen, **dict.fromkeys(new, _LOOKS)}
        self._unseen = {}
        for pid, left in looks.items():
            try:
                parent = int(_stat_fields(read_file(f"{self._proc}/{pid}/stat"))[1])
            except (OSError, ValueError, IndexError):
                if left > 1:
                    self._unseen[pid] = left - 1
                continue
            self._parents[pid] = parent
            self._names.add(str(pid))
            if pid not in self._members and self._owner(pid) is not None:
                self._newborn.append(pid)

    def _is_process(self, pid: int) -> bool:
        """Return False for the id of a thread, whose parent is that of its process."""
        try:
            return b"\nTgid:\t%d\n" % pid in read_file(f"{self._proc}/{pid}/status")
        except OSError:
            return False

    def _scan(self) -> None:
        """Read the parent of every process that is new since the last scan."""
        names = set(os.listdir(self._proc))
        for pid in _numbers(self._names - names):
            self._parents.pop(pid, None)
        self._former = {pid for pid in self._former if str(pid) in names}
        fresh = _numbers(names - self._names)
        self._names = names
        for pid in fresh:
            try:
                self._parents[pid] = int(_stat_fields(read_file(f"{self._proc}/{pid}/stat"))[1])
            except (OSError, ValueError, IndexError):
                continue  # it has ended
        self._newborn = [pid for pid in fresh if pid not in self._members and self._owner(pid) is not None]

    def _owner(self, pid: int) -> int | None:
        """Return the living member whose tree includes `pid`."""
        if pid in self._former:
            return None
        parent = self._parents.get(pid, 0)
        for _ in range(_MOST_GENERATIONS):
            member = self._members.get(parent)
            if member is not None:
                return parent if member.descendants and parent in self._trees else None
            if not parent or parent in self._former:
                return None
            parent = self._parents.get(parent, 0)
        return None

    def _adopt(self, pid: int) -> None:
        owner = self._owner(pid)
        if owner is None:
            return
        command = self._command_line(pid)
        if SAMPLER in command or not self._is_process(pid) or not self._open(pid):
            return
        self._trees[owner].append(pid)
        self._alone = None
        parent = self._parents.get(pid, 0)
        if _PREPARED in command and parent not in self._prepared and parent not in self._helpers:
            self._prepared.add(pid)
        elif parent in self._prepared or (parent == owner and self._members[owner].forks_calls):
            self._helpers.add(pid)
            if not self._has_remarked:
                self._has_remarked = True
                self._remarks.append(_SHARED)
        elif any(helper in command for helper in _OF_WORKERS):
            self._helpers.add(pid)
        else:
            self._name(pid, 0)


def _numbers(names: set[str]) -> list[int]:
    return [int(name) for name in names if name.isdigit()]


def read_file(path: str, folder: int | None = None) -> bytes:
    """Return the first 4 KiB of a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _stat_fields(stat: bytes) -> list[bytes]:
    """Return the fields of a ``stat`` line from the state on; the name before may contain spaces and brackets."""
    return stat.rpartition(b")")[2].split()


def _command_name(command: bytes, of_parent: bytes) -> bytes:
    """Return a name for a command line, in one word: its program, and the script that an interpreter runs."""
    if command == of_parent:
        return b"(forked)"
    words = command.split(b"\0")
    name = os.path.basename(words[0]) or _UNKNOWN
    if b"from multiprocessing." in command:
        name += b":multiprocessing"
    elif len(words) > 2 and words[1] and not words[1].startswith(b"-") and _INTERPRETER(name):
        name += b":" + os.path.basename(words[1])
    return b"_".join(name.split())[:_MOST_NAME]
