"""The memory of a tree of processes in which the pages that forked children share with their parent count once."""

from __future__ import annotations

import re
import time
from pathlib import Path

from runmem.node.linux_processes import LinuxProcesses
from runmem.units import KIB

__all__ = ["ForkedPages"]

_ANONYMOUS = re.compile(rb"^(Anonymous|Pss_Anon):\s+(\d+) kB", re.MULTILINE)
_STACK = 25  # place of the stack's address after the name in ``stat``; proc(5)'s field 28


class ForkedPages(LinuxProcesses):
    """Reads as the sampler of a node does, and takes off what forked processes have in common.

    A process that forked and did not execute has its parent's stack address (each execution draws another), and only of
    such families ``smaps_rollup`` is read: their shared anonymous pages are the anonymous memory less its proportional
    part.

    Parameters
    ----------
    scan_share : float
        Of a core, that looking for new processes may use.
    share : float
        Of a core, that reading ``smaps_rollup`` may use: it walks the page tables, 140 ms for 8 GiB.

    Assumptions
    -----------
    The kernel has ``Pss_Anon`` (5.14 and later); elsewhere nothing is taken off.

    Limitations
    -----------
    A family is read again when its processes change, or the share allows it; until then what they have in common is
    taken to be the same. While one of them ends, a sum is rather too low than too high.
    """

    def __init__(self, scan_share: float, share: float = 0.05) -> None:
        super().__init__(scan_share=scan_share)
        self._share = share
        self._of: dict[int, tuple[list[int], float, int]] = {}  # member -> processes, when due again, bytes in common

    def tree(self, pid: int) -> tuple[int, int] | None:
        """Return private and shared bytes of `pid` and its descendants; None when `pid` has ended."""
        sizes = super().tree(pid)
        processes = self._trees.get(pid, [])
        if sizes is None or len(processes) < 2:
            return sizes
        common = self._in_common(pid, list(processes))
        again = super().tree(pid) if common else sizes  # one may have ended while it was read
        if again is None:
            return None
        return max(min(sizes[0], again[0]) - common, 0), again[1]

    def _in_common(self, member: int, processes: list[int]) -> int:
        known, due_s, common = self._of.get(member, ([], 0.0, 0))
        began_s = time.thread_time()
        now = time.monotonic()
        if known == processes and now < due_s:
            return common
        common = sum(_shared_bytes(pid) for pid in _forked(processes))
        used_s = time.thread_time() - began_s
        self._of[member] = (processes, now + used_s / self._share, common)
        return common


def _forked(processes: list[int]) -> list[int]:
    """Return the processes that have their stack where another one has it: forked, and not executed since."""
    families: dict[bytes, list[int]] = {}
    for pid in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > _STACK and fields[_STACK] not in (b"0", b"1"):  # hidden from who may not trace it
            families.setdefault(fields[_STACK], []).append(pid)
    return [pid for family in families.values() if len(family) > 1 for pid in family]


def _shared_bytes(pid: int) -> int:
    """Return the anonymous memory of a process less its proportional part, 0 where that cannot be read."""
    try:
        found = dict(_ANONYMOUS.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes()))
    except OSError:
        return 0
    if len(found) < 2:
        return 0
    return max(int(found[b"Anonymous"]) - int(found[b"Pss_Anon"]), 0) * KIB
