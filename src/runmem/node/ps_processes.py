"""Read the memory of watched processes and their descendants with ``ps``, for systems without ``/proc`` (macOS).

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

import os
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from runmem.node.members import Member

__all__ = ["PsProcesses"]

_COMMAND = ["ps", "-axo", "pid=,ppid=,rss=,comm="]
_TIMEOUT_S = 10.0


class PsProcesses:
    """Read all processes with one ``ps`` at most once a second.

    Limitations: a value is the plain sum of the resident set sizes of a process and its descendants, so shared memory
    counts in each. A process is identified only by its id: a later process with the id of an ended member is mistaken
    for it until that leaves.
    """

    note = (
        "rss-sum: values are plain sums of resident set sizes read by ps once a second; shared pages count repeatedly"
    )
    least_interval_s = 1.0

    def __init__(self, note: str = "") -> None:
        if note:
            self.note = f"{PsProcesses.note}; {note.removesuffix('; ')}"
        self._members: dict[int, Member] = {}
        self._former: set[int] = set()
        self._rss: dict[int, int] = {}
        self._sums: dict[int, int] = {}
        self._reported: dict[int, tuple[int, int]] = {}
        self._children: dict[int, dict[bytes, int]] = {}  # member -> command -> size
        self._due = 0.0

    def watch(self, members: Sequence[Member]) -> None:
        new = {member.pid: member for member in members}
        self._former |= self._members.keys() - new.keys()
        self._former -= new.keys()
        self._members = new
        self._reported = {}
        self._due = 0.0

    def refresh(self) -> None:
        """Run ``ps`` and add up the sizes, unless it ran less than a second ago."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self.least_interval_s * 0.9  # less than a tick, so that jitter does not skip one
        table = _table()
        self._former &= table.keys()
        self._rss = {pid: rss for pid, (_, rss, _) in table.items()}
        self._children = {}
        self._sums = {pid: self._rss.get(pid, 0) for pid in self._members}
        for pid, (_, rss, command) in table.items():
            owner = self._owner(pid, table)
            if owner is not None:
                self._sums[owner] += rss
                shares = self._children.setdefault(owner, {})
                shares[command] = shares.get(command, 0) + rss

    def tree(self, pid: int) -> tuple[int, int] | None:
        """Return the sum of resident set sizes and 0, since sharing is unknown; None if `pid` has ended."""
        return (self._sums.get(pid, 0), 0) if self._rss.get(pid) else None

    def changes(self) -> dict[int, tuple[int, int] | None]:
        trees = {pid: self.tree(pid) for pid in self._members}
        changed = {pid: tree for pid, tree in trees.items() if tree != self._reported.get(pid)}
        self._reported = {pid: tree for pid, tree in trees.items() if tree is not None}
        return changed

    def children(self) -> dict[int, tuple[int | None, bytes]]:
        """Return the sums of all descendants, helpers too, since ``ps`` shows only the programs' names."""
        return {
            pid: (sum(shares.values()), max(shares, key=lambda command: shares[command]))
            for pid, shares in self._children.items()
            if self._rss.get(pid)
        }

    def owner(self, pid: int) -> int | None:
        """Return `pid` if it is watched: NVIDIA's GPUs, for which this is needed, are not in such systems."""
        return pid if self._rss.get(pid) and pid in self._members else None

    def notes(self) -> list[str]:
        """Return the remarks since the last call: none."""
        return []

    def _owner(self, pid: int, table: dict[int, tuple[int, int, bytes]]) -> int | None:
        """Return the member whose tree includes `pid`, which is not a member itself."""
        if pid in self._members or pid in self._former:
            return None
        seen = set()
        while pid in table and pid not in seen:
            seen.add(pid)
            pid = table[pid][0]
            if pid in self._members:
                return pid if self._members[pid].descendants else None
            if pid in self._former:
                return None
        return None


def _table() -> dict[int, tuple[int, int, bytes]]:
    """Return process -> (parent, resident set size in bytes, program); empty if ``ps`` fails."""
    try:
        listing = subprocess.run(_COMMAND, capture_output=True, timeout=_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    table = {}
    for line in listing.splitlines():
        *numbers, command = [*line.split(None, 3), b""][:4]
        if len(numbers) == 3 and all(number.isdigit() for number in numbers):
            pid, parent, rss_kib = map(int, numbers)
            name = b"_".join(os.path.basename(command).split())[:80] or b"(unknown)"
            table[pid] = (parent, rss_kib * 1024, name)
    return table
