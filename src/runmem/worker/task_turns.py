"""When a Dask task of a plain Dask program may run: one whose worker has died runs alone on its node."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from runmem.dask_private import is_wanted
from runmem.worker.call_recorder import WorkerRun

__all__ = ["DEATHS", "LONGEST_HOLD_S", "TaskTurn", "Tries"]

DEATHS = "runmem_deaths"
"""Annotation of a task that is tried again: how many workers have died with it, and when the last one did."""
LONGEST_HOLD_S = 30.0
"""See `NodeTurns`: Dask tasks may wait for each other, by locks or events."""
_VERDICT_S = 2.5  # for the client to fail a task whose worker has died
_POLL_S = 0.05


class Tries(NamedTuple):
    """Deaths of the workers of a task, and what is done about them.

    Attributes
    ----------
    on_memory : str or None
        See `RunOnWorkers.on_memory`.
    deaths : int
    last_death_s : float
        Time of the last death by the clock of the scheduler's host, in seconds since the epoch.
    """

    on_memory: str | None
    deaths: int = 0
    last_death_s: float = 0.0

    @property
    def are_over(self) -> bool:
        """Whether the task fails if the last of them died for memory."""
        return self.deaths > (0 if self.on_memory == "fail" else 1)


class TaskTurn:
    """The turn of one execution of a task.

    Parameters
    ----------
    run : WorkerRun
    worker : distributed.Worker
    key : object
    tries : Tries
    """

    def __init__(self, run: WorkerRun, worker: Any, key: Any, tries: Tries) -> None:
        self._run, self._worker, self._key, self._tries = run, worker, key, tries
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        self._block: AbstractContextManager[None] | None = None

    def begin(self) -> None:
        """Wait until the task may run. A coroutine, which runs in the event loop, does not wait.

        Raises
        ------
        CancelledError
            If the task has failed meanwhile.
        """
        turns = self._run.node_turns
        if turns is None or threading.get_ident() == self._loop_thread:
            return
        if self._tries.are_over:  # the client hears a moment later whether it was for memory, and fails the task
            since_s = min(max(0.0, time.time() - self._tries.last_death_s), _VERDICT_S)
            deadline_s = time.monotonic() + _VERDICT_S - since_s
            while self._is_wanted() and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
        block = turns.turn(self._tries.deaths > 0, self._is_wanted)
        block.__enter__()
        with self._lock:
            self._block = block
        if self._tries.deaths and not is_wanted(self._worker, self._key):
            self.end()
            raise CancelledError(f"the Dask task {self._key} has failed with an earlier worker")

    def _is_wanted(self) -> bool:
        return not self._run.stopped and is_wanted(self._worker, self._key)

    def end(self) -> None:
        """Let others run; from any thread, and again."""
        with self._lock:
            block, self._block = self._block, None
        if block is not None:
            block.__exit__(None, None, None)
