"""Sends each large value once, identified by its content, however many calls use it."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import xxhash

from runmem.graph.call import Execution, Version
from runmem.graph.task import TaskFunction
from runmem.serialization.packed import Packed

__all__ = ["LargeValues", "Part"]

Part = int | str | tuple[str, int]
"""Part of a call: a position, a keyword, or ("value", place of a snapshot)."""
_MOST_FOUND = 1000


class LargeValues:
    """Versions of large values by their content.

    Parameters
    ----------
    send : callable
        Takes a `Packed`, and the numbers of the definitions that it refers to; returns the version that stands for the
        value on the cluster.
    keep_bytes : int
        Size of the values kept for later calls. Those of waiting calls live on anyway, and are found again.

    Attributes
    ----------
    found_large : set
        Arguments and values, each with its task, that were large at the last call: these are not pickled twice.
    """

    def __init__(self, send: Callable[[Packed, frozenset[int]], Version], keep_bytes: int = 64 * 1024**2) -> None:
        self._send = send
        self._keep_bytes = keep_bytes
        self._kept: OrderedDict[str, tuple[int, Version]] = OrderedDict()
        self._alive: WeakValueDictionary[str, Execution] = WeakValueDictionary()
        self._of_places: dict[tuple[object, ...], str] = {}
        self.found_large: set[tuple[TaskFunction, Part]] = set()

    def clear(self) -> None:
        """Keep no value for later calls."""
        self._kept.clear()

    def note_large(self, task: TaskFunction, part: Part) -> None:
        """Note that an argument or value of a task was large."""
        if len(self.found_large) > _MOST_FOUND:
            self.found_large.clear()
        self.found_large.add((task, part))

    def version(
        self,
        data: bytes,
        buffers: Sequence[pickle.PickleBuffer],
        numbers: frozenset[int] = frozenset(),
        place: tuple[object, ...] | None = None,
        is_written: bool = False,
    ) -> tuple[Version, bool]:
        """Return the version of the value with this pickle and these buffers, which are copied if they can change.

        Also return whether no other call gets this version: one that `is_written` by its call, and too large to keep.
        `place`: the global, or the like, in which the program keeps the value. Its earlier value is not kept.
        """
        content = xxhash.xxh3_128(data)
        for buffer in buffers:
            content.update(buffer.raw())
        digest = content.hexdigest()
        size = len(data) + sum(buffer.raw().nbytes for buffer in buffers)
        execution = self._alive.get(digest)
        if execution is not None:
            version = Version(execution, 0)
        else:
            own = [b.raw() if _cannot_change(b) else bytearray(b.raw()) for b in buffers]
            version = self._send(Packed(data, own), numbers)
            if is_written and size > self._keep_bytes:
                return version, True
            self._alive[digest] = version.execution
        if place is not None:
            if (before := self._of_places.get(place, digest)) != digest:
                self._kept.pop(before, None)
            self._of_places[place] = digest
        self._kept.pop(digest, None)
        self._kept[digest] = size, version
        while sum(kept for kept, _ in self._kept.values()) > self._keep_bytes and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return version, False


def _cannot_change(buffer: pickle.PickleBuffer) -> bool:
    with memoryview(buffer) as view:
        return type(view.obj) is bytes
