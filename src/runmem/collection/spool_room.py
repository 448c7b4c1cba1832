"""Decides which beginnings of spool files a node may free: lines that the master has on its own disk."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["SpoolRoom"]

_SYNCED_SHARE = 0.2  # of the time; the disk has to keep up with new lines too
_MOST_SYNCED_S = 0.2  # at once: a thousand nodes of one pace reach their limits in the same round


class SpoolRoom:
    """Follows the size of the part of each node's spool that the master has copied and the node still keeps.

    Once that is more than `size_bytes` on a node, the room of all of it is given back but for the ends of the traces,
    half of `size_bytes` together: brackets are drawn at the height that the trace had when their task began.

    Parameters
    ----------
    size_bytes : int
    synced : callable
        Takes node, file and offset; returns up to which offset, at most that one, the copy is complete and on disk.
    """

    def __init__(self, size_bytes: int, synced: Callable[[str, str, int], int]) -> None:
        self._size_bytes = size_bytes
        self._synced = synced
        self._freed: dict[str, dict[str, int]] = {}
        self._asked: dict[str, dict[str, int]] = {}
        self._debt_s = 0.0  # time spent on syncing, less the share of the time that has passed since
        self._paid_s = time.monotonic()

    def to_free(self, node: str, offsets: dict[str, int]) -> dict[str, int]:
        """Return the ends of the beginnings that a node is to free, by file; the same until `freed` is called.

        Syncing the copies takes long where there are many: then some nodes have to wait for a later round.

        Parameters
        ----------
        offsets : dict
            File name to the number of bytes that the master has read.
        """
        if asked := self._asked.get(node):
            return asked
        freed = self._freed.setdefault(node, {})
        kept_bytes = {file: offset - freed.get(file, 0) for file, offset in offsets.items()}
        if sum(kept_bytes.values()) <= self._size_bytes:
            return {}
        if self._debt() > _MOST_SYNCED_S:
            return {}
        began_s = time.monotonic()
        traces = sum(file.endswith(".dat") for file in kept_bytes)
        ends = {}
        for file, size in kept_bytes.items():
            kept = self._size_bytes // (2 * traces) if file.endswith(".dat") else 0
            if size > kept:
                end = self._synced(node, file, offsets[file]) - kept
                if end > freed.get(file, 0):
                    ends[file] = end
        self._debt(time.monotonic() - began_s)
        if ends:
            self._asked[node] = ends
        return ends

    def _debt(self, used_s: float = 0.0) -> float:
        """Return how far syncing is ahead of its share of the time, after `used_s` more."""
        now_s = time.monotonic()
        self._debt_s = max(0.0, self._debt_s - (now_s - self._paid_s) * _SYNCED_SHARE) + used_s
        self._paid_s = now_s
        return self._debt_s

    def freed(self, node: str, ends: dict[str, int]) -> None:
        """Note the beginnings that a node has freed."""
        if ends and ends == self._asked.get(node):
            self._freed.setdefault(node, {}).update(ends)
            del self._asked[node]
