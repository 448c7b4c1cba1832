"""Callbacks and settings that a run provides to the submitter of its calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import distributed

from runmem.collection.observer import Observers
from runmem.events import TaskRecord
from runmem.worker.process_state import FollowedProcess

__all__ = ["RunServices"]


@dataclass(frozen=True)
class RunServices:
    """Callbacks and settings that a run provides to its `DaskSubmitter`.

    Attributes
    ----------
    run_id : str
    connect : callable
        Returns the client and the number of workers; called in the sender's thread when the first call comes.
    observers : Observers
    killed_reason : callable
        Takes the number of a call; returns why its worker was killed, or None.
    running : callable
        Takes the number of a call; returns the record of its running attempt, or None.
    now : callable
        Returns the time of the run, in seconds since the epoch.
    copied : bool or None
        Whether tasks get copies also of large values that they only read; None: in programs that import pycompss.
    process : FollowedProcess or None
        The state of the program's process that tasks follow.
    in_order : bool
        Whether calls run in the order of the program where their data allow. On a scheduler with other users all of
        them would come before, or after, those of the others.
    limit_s : float or None
        Time limit of a call whose task has none, in seconds.
    """

    run_id: str
    connect: Callable[[], tuple[distributed.Client, int]]
    observers: Observers
    killed_reason: Callable[[int], str | None]
    running: Callable[[int], TaskRecord | None] = lambda task_id: None
    now: Callable[[], float] = time.time
    copied: bool | None = None
    process: FollowedProcess | None = None
    in_order: bool = True
    limit_s: float | None = None
