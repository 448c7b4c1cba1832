"""Decides about the tasks of a plain Dask program whose worker was killed for its memory.

::

    collector: a killed task's record ──> MemoryPolicy ──> SecondTries on the scheduler: fail it
                                                └─ or nothing: it is marked, and runs alone on a node
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

from distributed.scheduler import KilledWorker

from runmem.collection.observer import Observer
from runmem.collection.process_deaths import DiedWorker, Kill
from runmem.errors import SettingError, TaskKilledError
from runmem.events import TaskMeasured, TaskRecord
from runmem.execution.after_deaths import no_room_alone
from runmem.execution.call_errors import explain_kill
from runmem.standard_error import say

__all__ = ["DaskTaskKilledError", "MemoryPolicy", "checked_policy"]

_POLICIES = ("retry_alone", "fail")


def checked_policy(on_memory: str | None) -> str | None:
    """Return what is done about a task that was killed for memory; None: what Dask does.

    Raises
    ------
    SettingError
        For a policy that a program on a cluster of its own cannot have.
    """
    if on_memory is not None and on_memory not in _POLICIES:
        raise SettingError(
            f"on_memory: {on_memory!r} cannot be used with measure(), because the limits of the workers are the "
            f"cluster's: use one of {', '.join(_POLICIES)}."
        )
    return on_memory


class DaskTaskKilledError(TaskKilledError, KilledWorker):  # type: ignore[misc]
    """A Dask task that was killed for its memory, and is not tried again. A `KilledWorker` for programs that catch it.

    Parameters
    ----------
    key : str
    task_id : int
        Number of its last execution.
    """

    def __init__(self, key: str, task_id: int) -> None:
        Exception.__init__(self, key)  # both base classes take other arguments
        self.name, self.root_task_id, self.task_id = key, task_id, task_id

    @property
    def task(self) -> str:
        """The key."""
        return self.name

    @property
    def last_worker(self) -> str | None:
        """The node of the worker, with the process; None: not known."""
        return None if self.node is None else f"process {self.pid} on node {self.node}"

    @property
    def allowed_failures(self) -> int:
        """How many deaths it was allowed before its last one."""
        return (self.tries or 1) - 1

    def __str__(self) -> str:
        return Exception.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.args, self.__dict__)


def _restored(args: tuple[Any, ...], values: dict[str, Any]) -> DaskTaskKilledError:
    error = DaskTaskKilledError("", 0)
    error.args = args
    error.__dict__.update(values)
    return error


class MemoryPolicy(Observer):
    """Has tasks fail that were killed for their memory, at once or after a second try alone on a node.

    Parameters
    ----------
    on_memory : str
        ``retry_alone`` or ``fail``.
    give_up : callable
        Takes the key of a task, as its records have it, and the pickled exception with which it fails.
    """

    def __init__(self, on_memory: str, give_up: Callable[[str, bytes], object]) -> None:
        self._on_memory = on_memory
        self._give_up = give_up
        self._deaths: Counter[str] = Counter()

    def task_measured(self, event: TaskMeasured) -> None:
        """Decide about a task that was killed for its memory."""
        record = event.record
        death = record.death
        if record.status != "killed" or record.key is None or death is None or not death.is_for_memory:
            return
        self._deaths[record.key] += 1
        if self._on_memory == "fail":
            tried = 'It was not tried again, because on_memory is "fail".'
        elif self._deaths[record.key] > 1:
            tried = "The last time it ran alone on its node."
        elif (refusal := no_room_alone(DiedWorker(death), Kill(death.words, record))) is not None:
            tried = f"It was not tried again: {refusal}."
        else:
            say(f"runmem: the Dask task {record.key}: it is tried again, alone on its node")
            return
        self._give_up(record.key, pickle.dumps(self._error(record, record.key, tried)))

    def _error(self, record: TaskRecord, key: str, tried: str) -> DaskTaskKilledError:
        error = DaskTaskKilledError(key, record.task_id)
        error.tries, error.tried = self._deaths[key], tried
        assert record.death is not None
        explain_kill(error, Kill(record.death.words, record))
        text = str(error).replace(f"task {key} (call {record.task_id})", f"the Dask task {key}", 1)
        error.args = (text,)
        return error
