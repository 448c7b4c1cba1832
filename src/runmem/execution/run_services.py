"""Callbacks and settings that a run provides to the submitter of its calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import distributed

from runmem.collection.observer import Observers
from runmem.collection.process_deaths import Kill
from runmem.events import TaskRecord
from runmem.execution.bundle import Durations
from runmem.execution.death_news import DeathNews
from runmem.serialization.snapshot import Snapshots
from runmem.settings import ON_MEMORY
from runmem.worker.packed_call import PackedTask

__all__ = ["Caller", "FollowedState", "MemoryAware", "RunServices"]


class FollowedState(Protocol):
    """The state of a process that tasks follow."""

    def packed(self) -> bytes:
        """Return the packed state now; the same object while it is the same."""


class Caller(NamedTuple):
    """The running call of a task that makes calls itself.

    Attributes
    ----------
    task_id : int
    depth : int
        Number of calls in which it is nested.
    task : PackedTask
    snapshots : Snapshots
        Of the definitions in its process.
    """

    task_id: int
    depth: int
    task: PackedTask
    snapshots: Snapshots


class MemoryAware(NamedTuple):
    """How calls are placed by the memory that they are expected to need.

    Attributes
    ----------
    known : mapping
        What calls needed in an earlier run, in bytes, by the name of the task.
    source : str or None
        That run, for messages.
    shares : bool
        Whether each worker may use what all workers of its node may use together.
    taken : callable
        Returns the memory, in bytes, that the program takes of what its node's workers may use.
    """

    known: Mapping[str, int]
    source: str | None
    shares: bool
    taken: Callable[[], int]


@dataclass(frozen=True)
class RunServices:
    """Callbacks and settings that a run provides to its `DaskSubmitter`.

    Attributes
    ----------
    run_id : str
    connect : callable
        Returns the client and the number of workers; called in the sender's thread when the first call comes.
    observers : Observers
    kill_of : callable
        Takes the number of a call; returns how its worker was killed, or None. May wait some seconds for it.
    running : callable
        Takes the number of a call; returns the record of its running attempt, or None.
    now : callable
        Returns the time of the run, in seconds since the epoch.
    copied : bool or None
        Whether tasks get copies also of large values that they only read; None: in programs that import pycompss.
    process : FollowedState or None
        The state of the program's process that tasks follow.
    in_order : bool
        Whether calls run in the order of the program where their data allow. On a scheduler with other users all of
        them would come before, or after, those of the others.
    limit_s : float or None
        Time limit of a call whose task has none, in seconds.
    caller : Caller or None
        The task that makes the calls; None: the program makes them.
    on_memory : str
        What is done about a call whose worker was killed for memory, if its task says nothing.
    deaths : DeathNews or None
        None: Dask decides about calls whose worker has died.
    durations : Durations or None
        How long calls last, reported by all workers; None: it is reported to the submitter's sender.
    away : callable
        Returns a context manager in which the thread waits for calls.
    memory : MemoryAware or None
        None: only calls that declare what they need are placed by it.
    largest_worker : callable
        Returns the memory limit, in bytes, of the largest worker, and its name; None if there is no limit.
    """

    run_id: str
    connect: Callable[[], tuple[distributed.Client, int]]
    observers: Observers
    kill_of: Callable[[int], Kill | None]
    running: Callable[[int], TaskRecord | None] = lambda task_id: None
    now: Callable[[], float] = time.time
    copied: bool | None = None
    process: FollowedState | None = None
    in_order: bool = True
    limit_s: float | None = None
    caller: Caller | None = None
    on_memory: str = ON_MEMORY[0]
    deaths: DeathNews | None = None
    durations: Durations | None = None
    away: Callable[[], AbstractContextManager[object]] = nullcontext
    memory: MemoryAware | None = None
    largest_worker: Callable[[], tuple[int, str] | None] = lambda: None
