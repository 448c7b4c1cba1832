"""What a worker needs so that its tasks can call tasks. `runmem.execution` implements it, above this room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from runmem.serialization.program_copy import ProgramCopy
from runmem.worker.packed_call import PackedCall, PackedTask

if TYPE_CHECKING:
    from runmem.worker.call_recorder import WorkerRun

__all__ = ["CallsOfTask", "Nesting", "nestings"]


class CallsOfTask(Protocol):
    """The calls of tasks that one call of a task makes."""

    def complete(self, body: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """Run `body`, which runs the task and returns its outputs, and wait for all calls that it makes.

        Return the outputs with values in place of the futures in them. Raise what `body` raises, or the exception of a
        call that failed and that the task has not seen.
        """


class Nesting(Protocol):
    """Makes the calls of the tasks of a run, on a worker of it."""

    def begin(self, run: WorkerRun | None, call: PackedCall, task: PackedTask, copy: ProgramCopy | None) -> CallsOfTask:
        """Return what makes the calls of one call of a task, which runs in this thread."""


nestings: dict[str, Nesting] = {}
"""Makes the calls of tasks, by the id of the run; none for a run whose tasks call tasks as plain functions."""
