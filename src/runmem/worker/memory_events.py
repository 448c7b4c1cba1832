"""Writes what Dask does about the memory of a worker into the trace of its node.

::

    worker, event loop: result moved to disk ─> amounts ─┐                nanny's process, 10 times a second:
    worker, 20 times a second: `worker.status` ──────────┴─> <node>.dat <─ process ids of its workers; ends at its limit
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from runmem.formats.memory_events import PAUSED, RESTARTED, RESUMED, SPILLED, TERMINATED, MemoryEvent
from runmem.memory.process import own_process, resident_bytes_of
from runmem.store.append import LineAppender
from runmem.worker.spilling import follow_spilling

__all__ = ["NannyMemoryEvents", "WorkerMemoryEvents"]

log = logging.getLogger(__name__)

_LOOK_S = 0.05  # a pause lasts at least 0.1 s, the interval at which Dask looks at the memory
_NANNY_LOOK_S = 0.1
_SPILLED_EVERY_S = 1.0  # at most a line so often


class WorkerMemoryEvents:
    """Follows the spilling and the pauses of a worker in this process, from now until `close`.

    Parameters
    ----------
    worker : distributed.Worker
    write : callable
        Appends whole lines to the trace of the node.
    now : callable
        Returns the time of the run in seconds since the epoch.

    Notes
    -----
    The first result that is spilled is written at once, more of them together once a second, so that a kill loses at
    most the amount of the last second.
    """

    def __init__(self, worker: Any, write: Callable[[bytes], object], now: Callable[[], float]) -> None:
        self._worker, self._write, self._now = worker, write, now
        self._is_paused = False
        self._spilled_bytes = self._results = 0
        self._spilled_s = 0.0
        self._written_s = -_SPILLED_EVERY_S  # on the monotonic clock
        self._lock = threading.Lock()
        self._end_spilling = follow_spilling(worker, self._spilled)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="runmem-memory-events", daemon=True)
        self._thread.start()

    def _spilled(self, key: Any, size_bytes: int) -> None:
        with self._lock:
            self._spilled_bytes += size_bytes
            self._results += 1
            self._spilled_s = self._now()
            self._write_spilled()

    def _write_spilled(self, at_once: bool = False) -> None:
        if self._results and (at_once or time.monotonic() - self._written_s >= _SPILLED_EVERY_S):
            amounts = self._spilled_bytes, self._results
            self._spilled_bytes = self._results = 0
            self._written_s = time.monotonic()
            self._note(SPILLED, self._spilled_s, *amounts)

    def _note(self, kind: str, time_s: float, spilled_bytes: int = 0, results: int = 0) -> None:
        self._write(MemoryEvent(kind, os.getpid(), time_s, _own_size(), spilled_bytes, results).line())

    def _loop(self) -> None:
        _look_often(self._look, _LOOK_S, self._closing, "what Dask does about memory is not noted any more")

    def _look(self) -> None:
        status = self._worker.status.name
        if status in ("paused", "running") and (status == "paused") != self._is_paused:
            self._is_paused = not self._is_paused
            self._note(PAUSED if self._is_paused else RESUMED, self._now())
        with self._lock:
            self._write_spilled()

    def close(self) -> None:
        """Stop following it; call this in the worker's event loop."""
        self._end_spilling()
        self._closing.set()
        self._thread.join(1)
        with self._lock:
            self._write_spilled(at_once=True)


def _look_often(look: Callable[[], None], every_s: float, closing: threading.Event, failure: str) -> None:
    """Call `look` at an interval, until `closing` is set or it raises; then log `failure`."""
    while not closing.wait(every_s):
        try:
            look()
        except Exception:
            log.exception(failure)
            return


def _own_size() -> int | None:
    try:
        return own_process().resident_bytes()
    except (OSError, ValueError, IndexError):
        return None


class Nanny(Protocol):
    """A Dask nanny, with the process id of its worker."""

    pid: int | None


class NannyMemoryEvents:
    """Follows the ends and restarts of the workers under the nannies of this process.

    Parameters
    ----------
    trace : Path
        Trace of this node.
    now : callable
        Returns the time of the run in seconds since the epoch.
    """

    def __init__(self, trace: Path, now: Callable[[], float]) -> None:
        self._trace, self._now = trace, now
        self._file: LineAppender | None = None
        self._pids: dict[int, tuple[Nanny, int | None]] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, nanny: Nanny) -> None:
        """Follow the workers of a nanny too."""
        self._pids[id(nanny)] = nanny, nanny.pid
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="runmem-nanny-events", daemon=True)
            self._thread.start()

    def known(self, nanny: Nanny) -> int | None:
        """Return the process id of the worker of a nanny as last seen, None before the first."""
        return self._pids[id(nanny)][1]

    def terminated(self, pid: int) -> None:
        """Write that a nanny ends a worker, which has reached its limit."""
        self._note(TERMINATED, pid)

    def _note(self, kind: str, pid: int) -> None:
        if self._file is None:  # the sampler makes the file, unless a worker dies very early
            self._file = LineAppender(self._trace)
        size = resident_bytes_of(pid) if kind == TERMINATED else None  # one that begins has next to nothing
        self._file.write(MemoryEvent(kind, pid, self._now(), size).line())

    def _loop(self) -> None:
        _look_often(self._look, _NANNY_LOOK_S, self._closing, "restarts of workers are not noted any more")

    def _look(self) -> None:
        for nanny, before in list(self._pids.values()):
            pid = nanny.pid
            if pid is not None and pid != before:
                if before is not None:
                    self._note(RESTARTED, pid)
                self._pids[id(nanny)] = nanny, pid

    def close(self) -> None:
        """Stop following them."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(1)
        if self._file is not None:
            self._file.close()
