"""What a worker process holds for others than the task that it runs: results, and inputs that came early.

Whoever stores such a thing says so when it is there and again around giving it up, so that it is in the increment of no
task. What is smaller than `LEAST_BYTES` need not be told, and is not counted.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from runmem.memory.peak import Coming, Leaving, PeakMeter, process_meter

__all__ = ["HeldMemory", "Holding", "held", "LEAST_BYTES"]

LEAST_BYTES = 64 * 1024
_WAITED_FOR_BYTES = 1024**2
_WAIT_S = 0.02
_NOTHING: AbstractContextManager[None] = nullcontext()


class Holding:
    """One thing that is held.

    Attributes
    ----------
    size_bytes : int
    """

    __slots__ = ("size_bytes", "_number", "_thread", "_going", "_gone")

    def __init__(self, size_bytes: int, number: int) -> None:
        self.size_bytes = size_bytes
        self._number = number
        self._thread = threading.get_ident()
        self._going = self._gone = False


class HeldMemory:
    """Account of what this process holds for others; any thread may add and remove.

    Assumptions: things are as large as is said of them, and what is told is all that Dask's threads keep. Limitations:
    when a thing that another thread received came is known only from the page faults of that thread.

    Parameters
    ----------
    meter : PeakMeter, optional
        Whose windows are to know of it; that of the process by default.
    """

    def __init__(self, meter: PeakMeter | None = None) -> None:
        self._meter = meter or process_meter()
        self._used: list[Holding] = []
        self._inputs = threading.local()
        self._changed = threading.Condition()  # its lock is reentrant: a finaliser may run within it
        self._underway: set[Coming] = set()
        self._blocks: dict[Coming, tuple[weakref.ref[Any], int]] = {}  # that came, and how much of each is not used
        self._waited_for: set[Coming] = set()

    def add(self, size_bytes: int) -> Holding | None:
        """Say that something of `size_bytes` is held from now on; give the result to `removing` when it is given up.

        None for what is too small to count.
        """
        if size_bytes < LEAST_BYTES:
            return None
        return Holding(size_bytes, self._meter.arrived(size_bytes))

    def coming(self, size_bytes: int) -> Coming | None:
        """Say that something of `size_bytes` begins to come from elsewhere; give the result to `came` after that."""
        if size_bytes < LEAST_BYTES:
            return None
        coming = self._meter.coming(size_bytes)
        if size_bytes >= _WAITED_FOR_BYTES:
            with self._changed:
                self._underway.add(coming)
        return coming

    def came(self, coming: Coming | None, block: Any) -> None:
        """Say that it lies in `block`, or (None) that the rest will not come."""
        if coming is None:
            return
        try:
            known = None if block is None else weakref.ref(block, lambda _: self._vanish(coming))
        except TypeError:  # when it will go nobody will know: it stays in doubt
            known = None
        self._meter.came(coming, known is not None)
        with self._changed:
            if known is not None:
                self._blocks[coming] = known, coming.size_bytes
            self._underway.discard(coming)
            self._changed.notify_all()

    def _vanish(self, coming: Coming) -> None:
        with self._changed:
            _, unused = self._blocks.pop(coming)
        if unused == coming.size_bytes:  # else it goes with what was found in it
            self._meter.vanishing(coming.size_bytes)

    def add_received(self, in_blocks_bytes: int, copied_bytes: int) -> Holding | None:
        """Say, as `add`, that something is held that came: so much in a block that came, the rest copied from it."""
        size_bytes = in_blocks_bytes + copied_bytes
        if size_bytes < LEAST_BYTES:
            return None
        return Holding(size_bytes, self._meter.arrived(size_bytes, self._use_block(in_blocks_bytes)))

    def _use_block(self, size_bytes: int) -> int:
        """Return how much of `size_bytes` came: all, if it fits into a block that nobody has used up."""
        with self._changed:
            for coming, (block, unused) in reversed(self._blocks.items()):
                if 0 < size_bytes <= unused:
                    self._blocks[coming] = block, unused - size_bytes
                    return size_bytes
        return 0

    def removing(self, holding: Holding | None) -> AbstractContextManager[Any]:
        """Return what must be around giving something up, in the thread that does so; a second time it does nothing."""
        if holding is None or holding._going:
            return _NOTHING
        return _Removal(self._meter, holding, self._changed)

    def call_with(self, inputs: Iterable[Holding]) -> None:
        """Say what the call that this thread begins now has as inputs: these are not held for others."""
        self._inputs.bytes = sum(holding.size_bytes for holding in inputs)

    def input_bytes(self) -> int:
        """Return the size of the inputs of the call that this thread is at."""
        return getattr(self._inputs, "bytes", 0)

    def settle(self, inputs: Iterable[Holding]) -> None:
        """Wait, before a call that has `inputs` is measured, for what would come or go at its beginning.

        Dask gives up what calls before had as inputs a few milliseconds after the last call that needs them has ended,
        and lets inputs of later calls come meanwhile. What somebody still needs stays: each thing is waited for once,
        and not longer than 20 ms.
        """
        inputs = [holding for holding in inputs if holding.size_bytes >= _WAITED_FOR_BYTES]
        before, self._used = self._used, inputs
        leaving = [holding for holding in before if holding not in inputs]
        with self._changed:
            coming = self._underway - self._waited_for
            self._waited_for = set(self._underway)
            deadline = time.monotonic() + _WAIT_S
            while any(not holding._gone for holding in leaving) or coming & self._underway:
                if not self._changed.wait(deadline - time.monotonic()):
                    break


class _Removal:
    __slots__ = ("_meter", "_holding", "_changed", "_leaving")

    def __init__(self, meter: PeakMeter, holding: Holding, changed: threading.Condition) -> None:
        self._meter = meter
        self._holding = holding
        self._changed = changed
        self._leaving: Leaving | None = None

    def __enter__(self) -> None:
        holding = self._holding
        holding._going = True
        self._leaving = self._meter.leaving(holding.size_bytes, holding._number, holding._thread)

    def __exit__(self, *error: object) -> None:
        assert self._leaving is not None
        self._meter.left(self._leaving)
        with self._changed:
            self._holding._gone = True
            self._changed.notify_all()


_held = HeldMemory()


def held() -> HeldMemory:
    """Return the account of this process."""
    return _held
