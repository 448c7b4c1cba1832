"""The data that a worker process stores for other tasks: results, and inputs that arrived early.

Code that stores such data reports it, and reports its release, so that no task's increment includes it. Data smaller
than `LEAST_BYTES` is not counted.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from runmem.memory.data_tracking import RECEIVED, RELEASED, Release, Transfer
from runmem.memory.peak import PeakMeter, process_meter

__all__ = ["LEAST_BYTES", "HandedOver", "StoredData", "StoredItem", "stored_data"]

LEAST_BYTES = 64 * 1024
_LEAST_AWAITED_BYTES = 1024**2
_TRANSFER_WAIT_S = 0.02
_NOTHING: AbstractContextManager[None] = nullcontext()


class StoredItem:
    """One piece of stored data, of `size_bytes`."""

    __slots__ = ("size_bytes", "_number", "_thread", "_is_leaving", "_has_left")

    def __init__(self, size_bytes: int, number: int) -> None:
        self.size_bytes = size_bytes
        self._number = number
        self._thread = threading.get_ident()
        self._is_leaving = self._has_left = False


class StoredData:
    """An account of the data that this process stores for other tasks; any thread may add and remove.

    Assumptions: reported sizes are right, and all data that Dask's threads keep is reported. Limitations: the time at
    which another thread received data is only known from the page faults of that thread.

    Parameters
    ----------
    meter : PeakMeter, optional
        The meter to inform; default that of the process.
    """

    def __init__(self, meter: PeakMeter | None = None) -> None:
        self._meter = meter or process_meter()
        self._last_inputs: list[StoredItem] = []
        self._inputs = threading.local()
        self._changed = threading.Condition()  # its lock is reentrant: a finaliser may run inside it
        self._in_progress: set[Transfer] = set()
        self._blocks: dict[Transfer, tuple[weakref.ref[Any], int]] = {}  # received, and the unused bytes of each
        self._waited_for: set[Transfer] = set()

    def add(self, size_bytes: int, reason: str = RECEIVED) -> StoredItem | None:
        """Report that `size_bytes` are stored from now on, and return the item, None if too small to count.

        `reason` is why an increment is unclear, if another thread has stored them.
        """
        if size_bytes < LEAST_BYTES:
            return None
        return StoredItem(size_bytes, self._meter.stored(size_bytes, reason=reason))

    def receiving(self, size_bytes: int) -> Transfer | None:
        """Report that a transfer of `size_bytes` begins; pass the result to `received`."""
        if size_bytes < LEAST_BYTES:
            return None
        transfer = self._meter.receiving(size_bytes)
        if size_bytes >= _LEAST_AWAITED_BYTES:
            with self._changed:
                self._in_progress.add(transfer)
        return transfer

    def received(self, transfer: Transfer | None, block: object) -> None:
        """Report that a transfer has ended, with its data in `block`, None if it failed."""
        if transfer is None:
            return
        try:
            known = None if block is None else weakref.ref(block, lambda _: self._discard(transfer))
        except TypeError:  # the release of the block cannot be noticed: it stays uncertain
            known = None
        self._meter.received(transfer, known is not None)
        with self._changed:
            if known is not None:
                self._blocks[transfer] = known, transfer.size_bytes
            self._in_progress.discard(transfer)
            self._changed.notify_all()

    def _discard(self, transfer: Transfer) -> None:
        with self._changed:
            _, unused = self._blocks.pop(transfer)
        if unused == transfer.size_bytes:  # otherwise the items in it report their release
            self._meter.discarding(transfer.size_bytes)

    def add_received(self, in_blocks_bytes: int, copied_bytes: int) -> StoredItem | None:
        """Report that received data is stored: some of it in a received block, the rest in copies; see `add`."""
        size_bytes = in_blocks_bytes + copied_bytes
        if size_bytes < LEAST_BYTES:
            return None
        return StoredItem(size_bytes, self._meter.stored(size_bytes, self._use_block(in_blocks_bytes)))

    def _use_block(self, size_bytes: int) -> int:
        """Return `size_bytes` if they fit into the unused part of a received block, else 0."""
        with self._changed:
            for transfer, (block, unused) in reversed(self._blocks.items()):
                if 0 < size_bytes <= unused:
                    self._blocks[transfer] = block, unused - size_bytes
                    return size_bytes
        return 0

    def removing(self, item: StoredItem | None) -> AbstractContextManager[object]:
        """Return a context for the code that releases an item; for an item that is leaving it does nothing."""
        if item is None or item._is_leaving:
            return _NOTHING
        return _Removal(self._meter, item, self._changed)

    def hand_over(self, item: StoredItem | None, blocks: Iterable[Any]) -> HandedOver:
        """Report that the call of this thread takes over the memory of an item; it is in `blocks`, which are arrays.

        The memory stays part of the level of its window, until the call frees it. Call `end` of the result afterwards.
        """
        if item is not None:
            item._is_leaving = item._has_left = True
        return HandedOver(self._meter, item, blocks)

    def removed(self, item: StoredItem | None, reason: str = RELEASED) -> None:
        """Report that an item is released about now, for `reason`, where `removing` could not surround the release."""
        if item is not None and not item._is_leaving:
            item._is_leaving = item._has_left = True
            self._meter.discarded(item.size_bytes, reason)

    def set_inputs(self, inputs: Iterable[StoredItem]) -> None:
        """Report the inputs of the call that this thread begins: they are not data of other tasks."""
        sizes = [item.size_bytes for item in inputs]
        self._inputs.bytes, self._inputs.largest = sum(sizes), max(sizes, default=0)

    def input_bytes(self) -> int:
        """Return the size of the inputs of this thread's current call."""
        return getattr(self._inputs, "bytes", 0)

    def moved_bytes(self) -> int:
        """Return how much of the inputs of this thread's current call may have come from other workers.

        Dask runs a call where most of its inputs are.
        """
        return self.input_bytes() - getattr(self._inputs, "largest", 0)

    def wait_for_transfers(self, inputs: Iterable[StoredItem]) -> None:
        """Wait for transfers and releases that would disturb the measurement of a call with `inputs`.

        Dask releases the inputs of earlier calls a few milliseconds after the last call that needs them, and receives
        inputs of later calls meanwhile. Data that is still needed stays, so each item is waited for only once, for at
        most 20 ms.
        """
        inputs = [item for item in inputs if item.size_bytes >= _LEAST_AWAITED_BYTES]
        before, self._last_inputs = self._last_inputs, inputs
        leaving = [item for item in before if item not in inputs]
        with self._changed:
            transfers = self._in_progress - self._waited_for
            self._waited_for = set(self._in_progress)
            deadline = time.monotonic() + _TRANSFER_WAIT_S
            while any(not item._has_left for item in leaving) or transfers & self._in_progress:
                if not self._changed.wait(deadline - time.monotonic()):
                    break


class _Removal:
    __slots__ = ("_meter", "_item", "_changed", "_release")

    def __init__(self, meter: PeakMeter, item: StoredItem, changed: threading.Condition) -> None:
        self._meter = meter
        self._item = item
        self._changed = changed
        self._release: Release | None = None

    def __enter__(self) -> None:
        item = self._item
        item._is_leaving = True
        self._release = self._meter.releasing(item.size_bytes, item._number, item._thread)

    def __exit__(self, *error: object) -> None:
        assert self._release is not None
        self._meter.released(self._release)
        with self._changed:
            self._item._has_left = True
            self._changed.notify_all()


class HandedOver:
    """Memory of stored data that a call has taken over; it may free it at any time."""

    def __init__(self, meter: PeakMeter, item: StoredItem | None, blocks: Iterable[Any]) -> None:
        self._meter = meter
        self._item = item
        self._left_bytes = item.size_bytes if item is not None else 0
        self._blocks = [weakref.ref(block, partial(self._freed, block.nbytes)) for block in blocks] if item else []

    def _freed(self, size_bytes: int, _: object) -> None:
        assert self._item is not None
        self._left_bytes -= size_bytes
        self._meter.released(
            self._meter.releasing(size_bytes, self._item._number, self._item._thread)._replace(windows=())
        )

    def end(self) -> None:
        """Report that the call has ended. What has become part of its results is reported as theirs."""
        self._blocks.clear()
        self._meter.handed_over(self._left_bytes)
        self._left_bytes = 0


_stored_data = StoredData()


def stored_data() -> StoredData:
    """Return the account of this process."""
    return _stored_data
