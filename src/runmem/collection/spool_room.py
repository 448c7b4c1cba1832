"""Decides which beginnings of spool files a node may free: lines that the master has on its own disk."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SpoolRoom"]


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

    def to_free(self, node: str, offsets: dict[str, int]) -> dict[str, int]:
        """Return the ends of the beginnings that a node is to free, by file; the same until `freed` is called.

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
        traces = sum(file.endswith(".dat") for file in kept_bytes)
        ends = {}
        for file, size in kept_bytes.items():
            kept = self._size_bytes // (2 * traces) if file.endswith(".dat") else 0
            if size > kept:
                end = self._synced(node, file, offsets[file]) - kept
                if end > freed.get(file, 0):
                    ends[file] = end
        if ends:
            self._asked[node] = ends
        return ends

    def freed(self, node: str, ends: dict[str, int]) -> None:
        """Note the beginnings that a node has freed."""
        if ends and ends == self._asked.get(node):
            self._freed.setdefault(node, {}).update(ends)
            del self._asked[node]
