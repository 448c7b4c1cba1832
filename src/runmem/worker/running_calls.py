"""Which calls a worker process runs, in a file that outlives it: when the process dies, its nanny reads them there.

The file begins with the address of the worker. After that it has a slot for each bundle that may run at the same time:
the number of the call that runs, or 0. Writing to a slot is no system call.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

__all__ = ["DyingWorker", "RunningCalls", "calls_of_dead"]

_ADDRESS_BYTES = 256
_SLOT = struct.Struct("=Q")
_SLOTS = 256


class RunningCalls:
    """The calls that this process runs.

    Parameters
    ----------
    path : Path
        The file, which is made.
    address : str
        That of the worker.

    Raises
    ------
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path, address: str) -> None:
        size = _ADDRESS_BYTES + _SLOTS * _SLOT.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, address.encode()[:_ADDRESS_BYTES].ljust(size, b"\0"))  # all of it, see `TimeLimits`
            self._file = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._free = [_ADDRESS_BYTES + number * _SLOT.size for number in reversed(range(_SLOTS))]

    @contextmanager
    def bundle(self) -> Iterator[Callable[[int], None]]:
        """Return the block in which a bundle runs; its value notes the call that runs from now on."""
        try:
            slot = self._free.pop()
        except IndexError:  # all slots are taken: the calls of this bundle are not noted
            yield lambda task_id: None
            return
        try:
            yield partial(_SLOT.pack_into, self._file, slot)
        finally:
            _SLOT.pack_into(self._file, slot, 0)
            self._free.append(slot)


class DyingWorker(NamedTuple):
    """What the file of a process says: the address of its worker, and the calls that ran."""

    address: str
    calls: list[int]


def calls_of_dead(path: Path) -> DyingWorker | None:
    """Return what a process that has died ran, given its file; None if it has none."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    address = data[:_ADDRESS_BYTES].rstrip(b"\0").decode(errors="replace")
    slots = data[_ADDRESS_BYTES:]
    whole = slots[: len(slots) - len(slots) % _SLOT.size]
    return DyingWorker(address, [number for (number,) in _SLOT.iter_unpack(whole) if number])
