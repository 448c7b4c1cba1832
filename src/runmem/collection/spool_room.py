"""Decides what a node may free of its spool: what the master has on its own disk, once there is too much of it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SpoolRoom"]


class SpoolRoom:
    """Follows how much of each node's spool the master has and the node still keeps.

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
        """Return the files of a node of which a beginning is to be freed, and where that ends; until `freed` is told.

        Parameters
        ----------
        offsets : dict
            File name to the number of bytes that the master has read.
        """
        if asked := self._asked.get(node):
            return asked
        freed = self._freed.setdefault(node, {})
        held = {file: offset - freed.get(file, 0) for file, offset in offsets.items()}
        if sum(held.values()) <= self._size_bytes:
            return {}
        traces = sum(file.endswith(".dat") for file in held)
        ends = {}
        for file, size in held.items():
            kept = self._size_bytes // (2 * traces) if file.endswith(".dat") else 0
            if size > kept:
                end = self._synced(node, file, offsets[file]) - kept
                if end > freed.get(file, 0):
                    ends[file] = end
        if ends:
            self._asked[node] = ends
        return ends

    def freed(self, node: str, ends: dict[str, int]) -> None:
        """Note what a node has freed."""
        if ends and ends == self._asked.get(node):
            self._freed.setdefault(node, {}).update(ends)
            del self._asked[node]
