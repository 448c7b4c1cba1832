"""All that runmem uses of Dask beyond its public interface; `tests/execution/test_dask_private.py` watches over it.

- `dask._task_spec.Task` and `TaskRef`: a graph with exact dependencies. The public tuple form is searched recursively
  for keys, which costs time and could take a user's string for one.
- The `interval` of the batched connections: how long a message waits for company. Dask's defaults (2 to 10 ms) make up
  most of the time of a short task.
- `read_bytes_rw` of its TCP: when memory is taken for what comes from other processes, and when it has come.
- `WorkerProcess.mark_stopped` of its nanny: with which code a worker has ended; the log tells only of others than 0.
- `Client._run`, `Client._run_on_scheduler`: `Client.run` waits for every answer, for half a minute when a network is
  cut, and for ever where a worker is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

import dask
import distributed
from dask._task_spec import Task, TaskRef
from distributed.comm import tcp
from distributed.nanny import WorkerProcess

__all__ = [
    "send_graph",
    "shorten_intervals",
    "start_on_worker",
    "tell_of_exits",
    "tell_of_receiving",
    "worker_memory_limit",
]

_INTERVAL_S = 0.0005


class Receiver(Protocol):
    """Who is told of what a process receives."""

    def receiving(self, size_bytes: int) -> Any:
        """Say that so much begins to come."""

    def received(self, coming: Any, block: Any) -> None:
        """Say that it has come, into `block`; None: it has not."""


def send_graph(
    client: distributed.Client,
    graph: Mapping[str, tuple[Callable[..., Any], Sequence[Any], Iterable[str]]],
    turns: Mapping[str, int] | None = None,
) -> dict[str, distributed.Future]:
    """Send tasks and return their futures at once.

    Parameters
    ----------
    graph : mapping
        Key to (function, literal arguments, keys whose values follow as arguments). Keys outside the graph must belong
        to futures that are alive.
    turns : mapping, optional
        By key, whose turn is first among what can run: the lowest. Default: as Dask finds best.
    """
    tasks = {
        key: Task(key, function, *literals, *(TaskRef(name) for name in inputs))
        for key, (function, literals, inputs) in graph.items()
    }
    keys = list(tasks)
    # Large arguments stand in the graph; where they come from is our decision, not one of the user's to be warned of.
    priority = {} if turns is None else {"priority": {key: -turn for key, turn in turns.items()}.get}
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"}), dask.annotate(**priority):
        return dict(zip(keys, client.get(tasks, keys, sync=False), strict=True))


def _shorten_worker(dask_worker: Any) -> None:
    stream: Any = getattr(dask_worker, "batched_stream", None)
    if hasattr(stream, "interval"):
        stream.interval = _INTERVAL_S


def _shorten_scheduler(dask_scheduler: Any) -> None:
    for stream in getattr(dask_scheduler, "stream_comms", {}).values():
        if hasattr(stream, "interval"):
            stream.interval = _INTERVAL_S


def shorten_intervals(client: distributed.Client) -> None:
    """Let messages between client, scheduler and workers wait less for company, where this Dask lets us.

    No answer is waited for: a worker that is stopped gives none.
    """
    stream = getattr(client, "scheduler_comm", None)
    if stream is not None and hasattr(stream, "interval"):
        stream.interval = _INTERVAL_S
    with suppress(Exception):  # a Dask that is built otherwise is slower, and that is all
        loop = client.loop.asyncio_loop
        asyncio.run_coroutine_threadsafe(client._run_on_scheduler(_shorten_scheduler), loop)
        asyncio.run_coroutine_threadsafe(client._run(_shorten_worker, on_error="ignore"), loop)


def start_on_worker(
    client: distributed.Client, function: Callable[..., Any], *arguments: Any, worker: str, nanny: bool
) -> Future[Any]:
    """Begin what `Client.run` does on one worker or its nanny, without waiting for the answer: it may never come."""
    run = client._run(function, *arguments, workers=[worker], nanny=nanny)
    begun: Future[Any] = asyncio.run_coroutine_threadsafe(run, client.loop.asyncio_loop)
    return begun


_exit_listeners: list[Callable[[int, int], None]] = []


def tell_of_exits(told: Callable[[int, int], None]) -> Callable[[], None]:
    """Let `told` know the process id and exit code of each worker that ends under a nanny of this process.

    Returns
    -------
    callable
        Ends that.

    Notes
    -----
    Dask says nothing of a worker that ends with code 0.
    """
    plain = WorkerProcess.mark_stopped
    if not hasattr(plain, "tells"):

        def mark_stopped(self: Any) -> None:
            process = self.process
            pid, code = (process.pid, process.exitcode) if process is not None else (None, None)
            if pid is not None and code is not None:
                for listener in list(_exit_listeners):
                    with suppress(Exception):
                        listener(pid, code)
            plain(self)

        mark_stopped.tells = True  # type: ignore[attr-defined]
        WorkerProcess.mark_stopped = mark_stopped
    _exit_listeners.append(told)
    return lambda: _exit_listeners.remove(told)


def worker_memory_limit(worker: Any) -> int | None:
    """Return the memory limit in bytes that a Dask worker goes by, or None if it has none."""
    return getattr(getattr(worker, "memory_manager", None), "memory_limit", None)


def tell_of_receiving(told: Receiver) -> bool:
    """Let `told` know of each block of memory into which this process receives something; False if that cannot be."""
    reading = getattr(tcp, "read_bytes_rw", None)
    if reading is None:
        return False
    plain = getattr(reading, "plain", reading)

    async def read_bytes_rw(stream: Any, size: int) -> Any:
        coming = told.receiving(size)
        block = None
        try:
            block = await plain(stream, size)
        finally:
            told.received(coming, getattr(block, "obj", None))
        return block

    read_bytes_rw.plain = plain  # type: ignore[attr-defined]
    tcp.read_bytes_rw = read_bytes_rw
    return True
