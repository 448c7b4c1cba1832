"""What a tick says in one trace: the lines of its processes, made anew only for those whose memory changed.

Standard library only, and without the package: see `runmem.node`.
"""

from __future__ import annotations

from operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["TraceLines", "total_bytes"]

MIB = 1024**2
_private: Callable[[tuple[int, int]], int] = itemgetter(0)
_shared: Callable[[tuple[int, int]], int] = itemgetter(1)


def total_bytes(trees: Collection[tuple[int, int]]) -> int:
    """Return the memory of several processes together, from the private and shared bytes of each.

    What each process may share counts once, as that of the process with most of it. Resident set sizes added up count
    every shared page as often as it is mapped.

    Assumption: processes that share memory share the same (one interpreter, one set of libraries). Limitation: what a
    process shares that the one with the most does not have is missing, such as a second file that it alone maps.
    """
    return sum(map(_private, trees)) + max(map(_shared, trees), default=0)


class TraceLines:
    """The lines of one trace, kept from tick to tick: of a node's processes most stand still most of the time."""

    def __init__(self) -> None:
        self._begins: dict[int, bytes] = {}
        self._trees: dict[int, tuple[int, int]] = {}
        self._lines: dict[int, bytes] = {}  # without the time
        self._total: bytes | None = None

    def add(self, pid: int, series: str) -> None:
        """Take process `pid`, whose lines name it `series`; without that it counts in the total alone."""
        self._begins[pid] = b"CHLD %s " % series.encode() if series else b""

    def change(self, pid: int, tree: tuple[int, int] | None) -> None:
        """Note the private and shared bytes of `pid` from here on; None: it has ended."""
        self._total = None
        if tree is None:
            self._trees.pop(pid, None)
            self._lines.pop(pid, None)
            return
        self._trees[pid] = tree
        if begin := self._begins[pid]:
            self._lines[pid] = b"%s%.6f" % (begin, (tree[0] + tree[1]) / MIB)

    def at(self, time_s: float) -> bytes:
        """Return the lines of a tick at `time_s` (seconds since the epoch); empty when no process lives."""
        if not self._trees:
            return b""
        if self._total is None:
            self._total = b"MEM %.6f" % (total_bytes(self._trees.values()) / MIB)
        stamp = b" %.4f\n" % time_s
        return stamp.join([self._total, *self._lines.values(), b""])
