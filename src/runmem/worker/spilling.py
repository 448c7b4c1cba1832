"""What a worker moves from memory to disk, and back, reported by the mapping that stores its results."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from dask.sizeof import sizeof

__all__ = ["follow_spilling", "is_on_disk"]

log = logging.getLogger(__name__)

Moved = Callable[[Any, int], None]


def follow_spilling(worker: Any, spilled: Moved, read_back: Moved | None = None) -> Callable[[], None]:
    """Report the results that a worker moves to disk and back, as key and size in bytes; return what ends that.

    Call both in the worker's event loop. The memory of a result is released after `spilled` has returned, and only if
    nothing else refers to it.

    Notes
    -----
    Dask's `SpillBuffer` is a `zict.Buffer`, which calls functions when data is moved. Other mappings (without a memory
    limit, or of dask-cuda) report nothing.
    """
    data = worker.data
    lists = getattr(data, "fast_to_slow_callbacks", None), getattr(data, "slow_to_fast_callbacks", None)
    to_disk, to_memory = lists
    if not isinstance(to_disk, list) or not isinstance(to_memory, list):
        return lambda: None

    def safely(moved: Moved) -> Moved:
        def call(key: Any, value: Any) -> None:
            try:
                moved(key, int(sizeof(value)))
            except Exception:  # else the result would stay in memory
                log.exception("the move of the result %s is not noted", key)

        return call

    added = [(to_disk, safely(spilled)), *([] if read_back is None else [(to_memory, safely(read_back))])]
    for calls, call in added:
        calls.append(call)

    def end() -> None:
        for calls, call in added:
            if call in calls:
                calls.remove(call)

    return end


def is_on_disk(worker: Any, key: Any) -> bool:
    """Return True if a result is on disk and not in memory."""
    return key in getattr(worker.data, "disk", ()) and key not in worker.data.memory
