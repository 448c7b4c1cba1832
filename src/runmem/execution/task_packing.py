"""Packs the part of a call that it has in common with other calls of its task."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from dataclasses import replace

from runmem.execution.random_numbers import SeedNote
from runmem.execution.run_services import RunServices
from runmem.graph.call import TaskCall
from runmem.graph.failure import retries_by_default
from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import ProgramDefinitions
from runmem.serialization.snapshot import Snapshot
from runmem.worker.log_levels import program_levels
from runmem.worker.packed_call import PackedTask

__all__ = ["TaskPacking", "gets_copies"]

_KNOWN_TASKS = 512


def gets_copies(copied: bool | None) -> bool:
    """Return True if tasks get copies of large values, given the setting; None: in programs that import pycompss."""
    return "pycompss" in sys.modules if copied is None else copied


class TaskPacking:
    """Packs tasks, and returns the very same object as at the last call while nothing has changed.

    Parameters
    ----------
    services : RunServices
    definitions : ProgramDefinitions
    """

    def __init__(self, services: RunServices, definitions: ProgramDefinitions) -> None:
        self._process = services.process
        self._copied = services.copied
        self._limit_s = services.limit_s
        self._caller = services.caller
        self._definitions = definitions
        self._known: OrderedDict[TaskFunction, tuple[Snapshot | None, PackedTask]] = OrderedDict()
        self._seed_note = SeedNote()

    def packed(self, call: TaskCall, snapshot: Snapshot | None) -> PackedTask:
        """Return the packed task of a call with this snapshot."""
        task = call.task
        process = self._process.packed() if self._process is not None else b""
        constants = snapshot.constants if snapshot is not None else b""
        copied = gets_copies(self._copied)
        retries = retries_by_default() if self._caller is None else self._caller.task.retries
        levels = program_levels.current() if self._caller is None else self._caller.task.log_levels
        known = self._known.get(task)
        if known is not None and known[0] is snapshot:
            packed = known[1]
            same = packed.constants is constants and packed.process is process and packed.log_levels is levels
            if same and (packed.copied, packed.retries, packed.returns) == (copied, retries, call.returns):
                return packed
        if self._caller is None:
            self._seed_note.look_at(task)
        number = self._definitions.number_of(task)
        isolation = call.isolation
        limit_s = self._limit_s if isolation.limit_s is None else isolation.limit_s
        # A worker that exceeds the time limit of an inner call is not ended: the call that waits may be there too.
        is_fresh = isolation.fresh_process or self._caller is not None and bool(limit_s)
        packed = PackedTask(
            name=task.name,
            reference=pickle.dumps(task) if number is None else None,
            number=number,
            outline=snapshot.outline if snapshot is not None else None,
            constants=constants,
            returns=call.returns,
            copied=copied,
            process=process,
            log_levels=levels,
            retries=retries,
            isolation=replace(isolation, limit_s=limit_s or None, fresh_process=is_fresh),
        )
        self._known[task] = snapshot, packed
        if len(self._known) > _KNOWN_TASKS:
            self._known.popitem(last=False)
        return packed
