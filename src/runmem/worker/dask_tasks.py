"""Measures all Dask tasks of a worker, whatever program made them.

::

    event loop: transition "executing" ─> the task's call is surrounded ─┐        transition "memory" ─> size is noted
    task's thread:                          _MeasuredCall.begin, call, end ┴─> lines of the task ─> tasks-<pid>.jsonl

The worker runs tasks as it did before once `teardown` was called, also those that had begun.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from dask.sizeof import sizeof
from distributed import WorkerPlugin
from distributed.utils import key_split_group

from runmem.dask_private import (
    WorkerTask,
    report_no_receiving,
    report_receiving,
    size_of_task,
    surround_actors,
    surround_task,
    uncover_all_tasks,
    uncover_task,
    worker_memory_limit,
)
from runmem.memory.data_tracking import READ_BACK, SPILLED
from runmem.memory.limits import memory_limit
from runmem.memory.peak import Window, process_meter
from runmem.memory.stored_data import LEAST_BYTES, StoredItem, stored_data
from runmem.store.line_writer import fields_of_line
from runmem.store.node_name import node_name
from runmem.worker.call_recorder import CallInProgress, WorkerRun, worker_runs
from runmem.worker.memory_events import WorkerMemoryEvents
from runmem.worker.node_turns import NodeTurns
from runmem.worker.probe import Parts, PeakProbe
from runmem.worker.record_fields import set_record_fields
from runmem.worker.run_on_workers import RunOnWorkers, stats_topic
from runmem.worker.spilling import follow_spilling, is_on_disk
from runmem.worker.task_turns import DEATHS, LONGEST_HOLD_S, TaskTurn, Tries

__all__ = ["LONGEST_KEY", "MODULE", "DaskTasks"]

log = logging.getLogger(__name__)

MODULE = "dask"
"""The module in the records of Dask tasks."""

_UNDER_WAY = ("executing", "long-running", "cancelled", "resumed")
_MOST_TEXT = 500  # characters of a key or an annotation
LONGEST_KEY = _MOST_TEXT
"""Longer keys are cut off in records."""
_OF_ACTORS = (
    "they have no record, since Dask gives a call of a method neither a key nor a number; tasks that ran beside one "
    "are labelled shared"
)
_IN_PROGRAM = "the worker is a thread of the program's process, whose memory is in its peak"


class _PeakOfTask(PeakProbe):
    """The peak of a Dask task, which may be a coroutine. Made in the thread of the worker's event loop.

    Parameters
    ----------
    is_shared : bool
        Whether other code than tasks runs in the process: all peaks are upper bounds.
    """

    def __init__(self, is_shared: bool) -> None:
        super().__init__()
        self._is_shared = is_shared
        self._loop_thread = threading.get_ident()

    def start(self) -> Window:
        within = asyncio.current_task() if threading.get_ident() == self._loop_thread else None
        return self._meter.start(within=within, tidy=True)

    def stop(self, started: Window | Parts) -> dict[str, Any]:
        fields = super().stop(started)
        if self._is_shared:
            fields |= {"shared": True, "increment_unclear": _IN_PROGRAM}
        return fields


class _Named(NamedTuple):
    """A Dask task as the lines about it name it."""

    name: str
    more: bytes
    module: str = MODULE
    file: str = ""
    data_id: str | None = None


class _MeasuredCall:
    """One execution of a Dask task."""

    __slots__ = ("_run", "_task", "_stored", "_worker", "_named", "_state", "_turn")

    def __init__(self, run: WorkerRun, task: WorkerTask, stored: _Results, worker: str, turn: TaskTurn | None) -> None:
        self._run, self._task, self._stored, self._worker, self._turn = run, task, stored, worker, turn
        self._state: CallInProgress | None = None

    def begin(self) -> None:
        if self._turn is not None:
            self._turn.begin()
        if self._run.stopped:
            return
        try:
            stored_data().set_inputs(self._stored.items_of(name for name, _ in self._task.inputs))
            self._named = _Named(self._task.prefix[:_MOST_TEXT], _described(self._task, self._worker))
            self._state = self._run.begin(self._task.number, self._named)
        except Exception:  # the task runs all the same
            log.exception("the Dask task %s is not measured", self._task.key)

    def end(self, result: Any, error: BaseException | None) -> None:
        try:
            self._measured(result, error)
        finally:
            if self._turn is not None:
                self._turn.end()

    def _measured(self, result: Any, error: BaseException | None) -> None:
        state, self._state = self._state, None
        if state is None:
            return
        try:
            if error is None and (size := _size(result)) is not None:
                set_record_fields(output_bytes=size)
            self._run.end(state, self._task.number, self._named, error)
        except Exception:
            log.exception("the Dask task %s has no record", self._task.key)


def _size(result: Any) -> int | None:
    try:
        return int(sizeof(result))
    except Exception:
        return None


def _described(task: WorkerTask, worker: str) -> bytes:
    """Return the fields that name a task, as JSON for its lines; written out here, since each task pays for it."""
    key = str(task.key)[:_MOST_TEXT]
    fields = f',"key":{json.dumps(key)}'.encode() + _of_layer(str(key_split_group(task.key)), worker)
    if task.annotations:
        fields += fields_of_line(
            {"annotations": {str(name): _plain(value) for name, value in task.annotations.items()}}
        )
    total = 0
    for _, size in task.inputs:
        if size is None:
            return fields
        total += size
    return fields + b',"input_bytes":%d' % total


@lru_cache(maxsize=256)
def _of_layer(layer: str, worker: str) -> bytes:
    return fields_of_line({"layer": layer[:_MOST_TEXT], "worker": worker})


def _plain(value: object) -> object:
    return value if value is None or type(value) in (bool, int, str) else str(value)[:_MOST_TEXT]


class _Results:
    """The results that a worker stores, as the meter of the process knows them; all measurements share them."""

    def __init__(self, worker: Any) -> None:
        self.users = 0
        self.items: dict[Any, StoredItem | None] = {}
        self._worker = worker
        for key in list(worker.data):
            self.stored(key)
        self._end_spilling = follow_spilling(worker, self._spilled, self._read_back)

    def items_of(self, keys: Iterable[Any]) -> list[StoredItem]:
        """Return those of some results that are in memory; from any thread."""
        return [item for key in keys if (item := self.items.get(key)) is not None]

    def stored(self, key: Any, received: bool = False) -> None:
        """Note that a result is stored; `received`: another worker has sent it."""
        if key not in self.items:
            size_bytes = size_of_task(self._worker, key) or 0
            if size_bytes < LEAST_BYTES or not is_on_disk(self._worker, key):
                account = stored_data()
                self.items[key] = account.add_received(size_bytes, 0) if received else account.add(size_bytes)

    def _spilled(self, key: Any, size_bytes: int) -> None:
        if key not in self.items:  # it goes to disk before Dask reports it as stored
            self.items[key] = stored_data().add(size_bytes)
        stored_data().removed(self.items.pop(key), SPILLED)

    def _read_back(self, key: Any, size_bytes: int) -> None:
        if key not in self.items and not is_on_disk(self._worker, key):  # one that is too large stays on disk
            self.items[key] = stored_data().add(size_bytes, READ_BACK)

    def released(self, key: Any) -> None:
        """Note that a result has been released."""
        stored_data().removed(self.items.pop(key, None))

    def release_all(self) -> None:
        """Stop following them."""
        self._end_spilling()
        for key in list(self.items):
            self.released(key)


_results: dict[str, _Results] = {}
"""By the address of the worker."""


class _Joined(NamedTuple):
    """A measurement in this process, and the number of its workers here."""

    run: WorkerRun
    workers: int


_joined: dict[str, _Joined] = {}
_lock = threading.Lock()


class DaskTasks(WorkerPlugin):  # type: ignore[misc]
    """Measures the Dask tasks of a worker from `setup` to `teardown`.

    Parameters
    ----------
    run : RunOnWorkers
    program_pid : int
        Process id, on the node `run.host`, of the program that uses the cluster: a worker in it is not alone there.
    report_loss : callable, optional
        Takes the place and the reason of what is not measured or not recorded; from any thread. Default: to the client.
    """

    def __init__(
        self, run: RunOnWorkers, program_pid: int | None = None, report_loss: Callable[[str, str], object] | None = None
    ) -> None:
        self.name = f"runmem-tasks-{run.run_id}"
        self._run = run
        self._program_pid = program_pid
        self._report_loss = report_loss
        self._refused: set[str] = set()
        self._stored: _Results | None = None
        self._end_of_actors: Callable[[], None] | None = None
        self._turns: dict[Any, TaskTurn] = {}

    def setup(self, worker: Any) -> None:
        """Begin to measure; raises if that is not possible here."""
        self._worker = worker
        limits = [limit for limit in (worker_memory_limit(worker), memory_limit().limit_bytes) if limit]
        with _lock:
            joined = _joined.get(self._run.run_id)
            if joined is None:
                is_here = self._program_pid == os.getpid() and self._run.host == node_name()
                is_shared = is_here or worker.address.startswith("inproc://")
                run = WorkerRun(self._run, min(limits, default=None), self._notify, probe=_PeakOfTask(is_shared))
                if self._run.on_memory is not None:
                    run.node_turns = NodeTurns(run.spool.root, LONGEST_HOLD_S)
                process_meter().watch_this_thread()  # Dask's: it receives inputs, and reads what was spilled
                joined = _Joined(run, 0)
            _joined[self._run.run_id] = joined._replace(workers=joined.workers + 1)
            self._recorder = joined.run
        self._end_of_actors = surround_actors(worker, self._method_of_actor)
        self._memory_events = WorkerMemoryEvents(worker, joined.run.write_trace, joined.run.now)
        if worker.address not in _results:
            report_receiving(stored_data())
            _results[worker.address] = _Results(worker)
        self._stored = _results[worker.address]
        self._stored.users += 1

    def _notify(self, message: dict[str, Any]) -> None:
        if self._report_loss is not None:
            if "lost" in message:
                self._report_loss(message["place"], message["lost"])
            return
        self._worker.loop.add_callback(self._worker.log_event, stats_topic(self._run.run_id), message)

    def teardown(self, worker: Any) -> None:
        """End; a task under way is not measured any more, unless the worker ends with it."""
        if self._stored is None or self._end_of_actors is None:
            return  # it could not be set up
        self._end_of_actors()
        self._memory_events.close()
        self._stored.users -= 1
        if not self._stored.users:  # else another measurement does so, when the tasks end
            uncover_all_tasks(worker)
            self._stored.release_all()
            _results.pop(worker.address, None)
            if not _results and not worker_runs:
                report_no_receiving()
        with _lock:
            joined = _joined.pop(self._run.run_id, None)
            if joined is None:
                return
            if joined.workers > 1:
                _joined[self._run.run_id] = joined._replace(workers=joined.workers - 1)
                return
        if worker.status.name not in ("closing", "closed", "failed"):
            joined.run.stop()
        joined.run.close()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Surround a task that begins, and follow the results that the worker stores."""
        if finish == "executing":
            if start not in _UNDER_WAY and (refusal := surround_task(self._worker, key, self._measured)) is not None:
                self._refuse(refusal)
        elif start in _UNDER_WAY and finish not in _UNDER_WAY:
            uncover_task(self._worker, key)
            self._turns.pop(key, None)
        if finish == "long-running" and (turn := self._turns.get(key)) is not None:
            turn.end()  # it has left the pool of threads, and may wait for other tasks
        if self._stored is None:
            return
        if finish == "memory":
            self._stored.stored(key, received=start == "flight")
        elif start == "memory":
            self._stored.released(key)

    def _measured(self, task: WorkerTask) -> _MeasuredCall:
        assert self._stored is not None
        turn = None
        if self._recorder.node_turns is not None:
            annotations = dict(task.annotations)
            tries = Tries(self._run.on_memory, *annotations.pop(DEATHS, ()))
            task = task._replace(annotations=annotations)
            turn = self._turns[task.key] = TaskTurn(self._recorder, self._worker, task.key, tries)
        return _MeasuredCall(self._recorder, task, self._stored, self._worker.address, turn)

    @contextmanager
    def _method_of_actor(self) -> Iterator[None]:
        """Open a window, so that tasks that overlap with the method are labelled."""
        self._lose("methods of actors", _OF_ACTORS)
        window = process_meter().start()
        try:
            yield
        finally:
            process_meter().stop(window)

    def _refuse(self, reason: str) -> None:
        self._lose(f"tasks of worker {self._worker.address}", f"some were not measured: {reason}")

    def _lose(self, place: str, reason: str) -> None:
        """Report a loss, once."""
        if reason not in self._refused:
            self._refused.add(reason)
            self._notify({"place": place, "lost": reason})
