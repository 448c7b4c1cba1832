"""A larger memory limit for a worker while one call runs there, alone on its node: that of the node.

::

    worker process: raise own limit ─> call ─> own limit as before
    nanny:          raise its limit, at which it ends the worker ─> as before, once the process is small enough again
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import distributed
import psutil

from runmem.dask_private import set_worker_memory_limit, worker_memory_limit
from runmem.memory.limits import memory_limit
from runmem.worker.call_recorder import WorkerRun

__all__ = ["larger_limit"]

_POLL_S = 0.1
_SMALL = 0.9  # of the limit: Dask's nannies end a worker at 0.95

_in_use: set[int] = set()
"""Processes, of the nannies here, that may use more for now."""


@contextmanager
def larger_limit(run: WorkerRun) -> Iterator[None]:
    """Return a block in which this worker may use the memory of its node, as far as this process may."""
    worker = distributed.get_worker()
    usual, larger = worker_memory_limit(worker), memory_limit().limit_bytes
    if usual is None or usual >= larger:
        yield
        return
    client, pid = distributed.get_client(), os.getpid()
    nanny: dict[str, Any] = {"nanny": True, "workers": [worker.address]}
    if worker.nanny is not None:
        client.run(_raise, pid, larger, **nanny)
    set_worker_memory_limit(worker, larger)
    run.set_limit(larger)
    try:
        yield
    finally:
        run.set_limit(min(usual, larger))
        set_worker_memory_limit(worker, usual)
        if worker.nanny is not None:
            client.run(_end_raise, pid, **nanny)


async def _raise(pid: int, larger: int, dask_worker: Any) -> None:
    """Raise the limit of a nanny, until its process `pid` no longer needs it or has died; runs there."""
    if pid in _in_use or dask_worker.pid != pid:
        return
    usual = worker_memory_limit(dask_worker)
    _in_use.add(pid)
    set_worker_memory_limit(dask_worker, larger)

    async def restore() -> None:
        while dask_worker.pid == pid and (pid in _in_use or not _is_small(pid, usual or 0)):
            await asyncio.sleep(_POLL_S)
        _in_use.discard(pid)
        set_worker_memory_limit(dask_worker, usual)

    _tasks.add(restoring := asyncio.create_task(restore()))
    restoring.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()
"""The event loop keeps none of them alive."""


def _end_raise(pid: int) -> None:
    _in_use.discard(pid)


def _is_small(pid: int, limit_bytes: int) -> bool:
    try:
        return bool(psutil.Process(pid).memory_info().rss < _SMALL * limit_bytes)
    except psutil.Error:
        return True
