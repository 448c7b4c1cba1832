"""Memory of a process tree, counting pages shared by fork once."""

from __future__ import annotations

import re
import time
from pathlib import Path

from runmem.node.linux_processes import LinuxProcesses
from runmem.units import KIB

__all__ = ["ForkedPages"]

_ANONYMOUS = re.compile(rb"^(Anonymous|Pss_Anon):\s+(\d+) kB", re.MULTILINE)
_STACK = 25  # index of the stack's address after the name in ``stat``: field 28 in proc(5)


class ForkedPages(LinuxProcesses):
    """Read process trees as a node's sampler does, and subtract the pages that forked processes share.

    A process that was forked and has not called exec has its parent's stack address (exec picks a new one).
    ``smaps_rollup`` is read only for processes with equal stack addresses: their shared anonymous pages are the
    anonymous memory less its proportional part.

    Parameters
    ----------
    scan_share : float
        Share of a core to use for finding new processes.
    share : float
        Share of a core to use for reading ``smaps_rollup``, which takes 140 ms for 8 GiB.

    Assumptions
    -----------
    The kernel has ``Pss_Anon`` (5.14 and later); otherwise nothing is subtracted.

    Limitations
    -----------
    The shared pages are read again when the processes change, or as soon as `share` allows; until then they are
    assumed constant. While one of the processes ends, a sum tends to be too low.
    """

    def __init__(self, scan_share: float, share: float = 0.05) -> None:
        super().__init__(scan_share=scan_share)
        self._share = share
        self._shared: dict[int, tuple[list[int], float, int]] = {}  # member -> processes, time of next reading, bytes

    def tree(self, pid: int) -> tuple[int, int] | None:
        """Return private and shared bytes of `pid` and its descendants; None if `pid` has ended."""
        sizes = super().tree(pid)
        processes = self._trees.get(pid, [])
        if sizes is None or len(processes) < 2:
            return sizes
        common = self._common_bytes(pid, list(processes))
        again = super().tree(pid) if common else sizes  # a process may have ended in between
        if again is None:
            return None
        return max(min(sizes[0], again[0]) - common, 0), again[1]

    def _common_bytes(self, member: int, processes: list[int]) -> int:
        known, due_s, common = self._shared.get(member, ([], 0.0, 0))
        began_s = time.thread_time()
        now = time.monotonic()
        if known == processes and now < due_s:
            return common
        common = sum(_shared_bytes(pid) for pid in _forked(processes))
        used_s = time.thread_time() - began_s
        self._shared[member] = (processes, now + used_s / self._share, common)
        return common


def _forked(processes: list[int]) -> list[int]:
    """Return the processes whose stack address equals another's: they were forked and have not called exec."""
    families: dict[bytes, list[int]] = {}
    for pid in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > _STACK and fields[_STACK] not in (b"0", b"1"):  # hidden from users who may not trace it
            families.setdefault(fields[_STACK], []).append(pid)
    return [pid for family in families.values() if len(family) > 1 for pid in family]


def _shared_bytes(pid: int) -> int:
    """Return the anonymous memory of a process less its proportional part, 0 if unreadable."""
    try:
        found = dict(_ANONYMOUS.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes()))
    except OSError:
        return 0
    if len(found) < 2:
        return 0
    return max(int(found[b"Anonymous"]) - int(found[b"Pss_Anon"]), 0) * KIB
