"""Read the memory of watched processes without pages that they share, or with a part of those.

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from runmem.node.linux_processes import LinuxProcesses
    from runmem.node.proc_files import read_file
else:  # started by path
    from linux_processes import LinuxProcesses
    from proc_files import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runmem.node.members import Member

__all__ = ["METRICS", "PageShares"]

METRICS = {
    "pss": (re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE), "proportional set sizes"),
    "uss": (re.compile(rb"^Private_\w+:\s+(\d+) kB", re.MULTILINE), "unique set sizes"),
}
_KIB = 1024
_SHARE = 0.05  # of a core, for reading


class PageShares(LinuxProcesses):
    """Read ``smaps_rollup``, in which a page that several processes share is divided among them, or left out.

    A tree has private memory only: the sum of its processes. With ``pss``, a page that forked processes still share
    counts once altogether; with ``uss`` not at all.

    Parameters
    ----------
    metric : str
        ``pss`` or ``uss``.
    share : float
        Share of a core for reading.

    Assumptions
    -----------
    The sizes do not change much between two readings. Reading takes 0.4 ms for a worker that has done nothing, and some
    10 ms more for each GiB, so all are read less often than once a tick where that would use more than `share` of a
    core.

    Limitations
    -----------
    A process whose ``smaps_rollup`` cannot be read (another user's, or one that may not be traced) counts with its
    resident set size, which is an upper bound; `notes` names it. As the child of a task it makes their sum unknown.
    """

    def __init__(self, metric: str, proc: str = "/proc", share: float = _SHARE) -> None:
        super().__init__(proc)
        self._metric = metric
        self._pattern, what = METRICS[metric]
        self.note = f"{metric}: values are {what}, read as often as {share:.0%} of a core allows".replace("%", " %")
        self._share = share
        self._due = 0.0
        self._sizes_of: dict[int, int] = {}
        self._unreadable: set[int] = set()
        self._last: dict[int, tuple[int, int]] = {}
        self._notes: list[str] = []

    def watch(self, members: Sequence[Member]) -> None:
        super().watch(members)
        self._last = {}

    def changes(self) -> dict[int, tuple[int, int] | None]:
        if (now := time.perf_counter()) >= self._due:
            began_s = time.thread_time()
            self._sizes_of = {}
            for tree in self._trees.values():
                for pid in tree:
                    self._read(pid)
            self._due = now + (time.thread_time() - began_s) / self._share
        self._children = {}
        changed: dict[int, tuple[int, int] | None] = {}
        for member in list(self._trees):
            sizes = self.tree(member)
            if sizes is None:
                self._last.pop(member, None)
                changed[member] = None
            elif sizes != self._last.get(member):
                changed[member] = self._last[member] = sizes
        return changed

    def tree(self, pid: int) -> tuple[int, int] | None:
        tree = self._trees.get(pid)
        if tree is None:
            return None
        total = 0
        ended = []
        children: list[tuple[int, int, int]] = []
        for each in tree:
            _, resident, _ = self._read_statm(each).split(None, 2)
            if resident == b"0":
                ended.append(each)
                continue
            size = self._sizes_of[each] if each in self._sizes_of else self._read(each)
            total += size
            if each in self._of_tasks:
                children.append((each, size // self._page, 0))
        if children:
            pages, command = self._of_tasks.sum_of(children)
            is_known = self._unreadable.isdisjoint(each for each, _, _ in children)
            self._children[pid] = pages * self._page if is_known else None, command
        if ended:
            self._forget(pid, ended)
        return None if pid in ended else (total, 0)

    def _read(self, pid: int) -> int:
        """Read the memory of a process; its resident set size where that is not allowed."""
        problem = ""
        try:
            data = read_file(f"{self._proc}/{pid}/smaps_rollup")
            found = self._pattern.findall(data)
            if data and not found:
                problem = "the kernel does not report it"
            size = sum(map(int, found)) * _KIB
        except (ProcessLookupError, FileNotFoundError):  # it has ended
            size = 0
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            size = int(self._read_statm(pid).split(None, 2)[1]) * self._page
            if pid not in self._unreadable:
                self._unreadable.add(pid)
                used = "its resident set size is used"
                self._notes.append(f"{self._metric} of process {pid} cannot be read ({problem}): {used}")
        self._sizes_of[pid] = size
        return size

    def notes(self) -> list[str]:
        """Return the remarks since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def _close(self, pid: int) -> None:
        super()._close(pid)
        self._sizes_of.pop(pid, None)
        self._unreadable.discard(pid)
