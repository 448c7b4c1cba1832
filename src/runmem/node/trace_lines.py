"""The lines of a tick in one trace, formatted only for processes whose memory has changed.

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
    """Return the total memory of several processes, from the private and shared bytes of each.

    Shared memory counts once, as that of the process with most of it. A sum of resident set sizes would count a shared
    page once for each process.

    Assumption: processes share the same memory (one interpreter, one set of libraries). Limitation: shared memory that
    the process with most of it does not map is missing.
    """
    return sum(map(_private, trees)) + max(map(_shared, trees), default=0)


class TraceLines:
    """The lines of one trace, cached between ticks, since most processes rarely change."""

    def __init__(self) -> None:
        self._prefixes: dict[int, bytes] = {}
        self._trees: dict[int, tuple[int, int]] = {}
        self._lines: dict[int, bytes] = {}  # without the time
        self._total: bytes | None = None
        self._children: dict[int, tuple[tuple[int | None, bytes], bytes]] = {}  # process -> last reading, its line
        self._extra: list[bytes] = []  # lines of this tick only, without the time

    def add(self, pid: int, series: str) -> None:
        """Add process `pid` with the name `series` in its lines; with an empty name it counts in the total only."""
        self._prefixes[pid] = b"CHLD %s " % series.encode() if series else b""

    def change(self, pid: int, tree: tuple[int, int] | None) -> None:
        """Set the private and shared bytes of `pid`, None if it has ended."""
        self._total = None
        if tree is None:
            self._trees.pop(pid, None)
            self._lines.pop(pid, None)
            return
        self._trees[pid] = tree
        if prefix := self._prefixes[pid]:
            self._lines[pid] = b"%s%.6f" % (prefix, (tree[0] + tree[1]) / MIB)

    def add_children(self, pid: int, reading: tuple[int | None, bytes]) -> None:
        """Add the memory and command of the children of tasks to the lines of this tick, if `pid` has a name there."""
        last, line = self._children.get(pid, (None, b""))
        if reading[0] is None:
            return
        if last is not reading and (prefix := self._prefixes[pid]):
            line = b"CHILDREN %s%s %.6f" % (prefix[len(b"CHLD ") :], reading[1], reading[0] / MIB)
            self._children[pid] = reading, line
        if line:
            self._extra.append(line)

    def add_gpus(self, devices: dict[str, int], processes: dict[int, int]) -> None:
        """Add the bytes on GPUs, of each device and of each named process, to the lines of this tick."""
        self._extra += [b"GPU %s %.6f" % (name.encode(), size / MIB) for name, size in devices.items()]
        for pid, size in processes.items():
            if prefix := self._prefixes.get(pid):
                self._extra.append(b"GPU %s%.6f" % (prefix[len(b"CHLD ") :], size / MIB))

    @property
    def is_of_node(self) -> bool:
        """Whether the trace has named processes: workers."""
        return any(self._prefixes.values())

    def at(self, time_s: float) -> bytes:
        """Return the lines of a tick at `time_s` (seconds since the epoch); empty if no process is alive."""
        extra, self._extra = self._extra, []
        if not self._trees:
            return b""
        if self._total is None:
            self._total = b"MEM %.6f" % (total_bytes(self._trees.values()) / MIB)
        stamp = b" %.4f\n" % time_s
        return stamp.join([self._total, *self._lines.values(), *extra, b""])
