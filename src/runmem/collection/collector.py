"""Copies the spools of the nodes to the master while the program runs, and reports events to the observers.

::

    runmem-collector (twice a second)  ┐
    program's thread (kill_of,         ├─ `_lock` ─> read spools ─> replicas, TaskLines, observers
      cut_off, finish, log of tasks)   ┘                 ^
                                                          └ other nodes: answers of their nannies (remote_nodes.py)
    after each round, without the lock: `deliver` runs the program's log handlers, in the thread that has collected
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from runmem.collection.observer import Observers
from runmem.collection.pace import Pace, WantedInterval
from runmem.collection.process_deaths import DiedWorker, Kill, ProcessDeaths, StartDeath
from runmem.collection.replicas import Replicas
from runmem.collection.spool_lines import SpoolLines, is_trace, worker_of_tasks
from runmem.collection.spool_reader import SpoolNews, SpoolQuestion, read_spool
from runmem.collection.spool_room import SpoolRoom
from runmem.events import FIRST_NESTED, DataLost, TaskRecord
from runmem.memory.allocator import trim_free_memory
from runmem.settings import Settings
from runmem.store.layout import JOBS, RunDirectory
from runmem.store.node_name import node_name
from runmem.store.task_lines import TaskLines
from runmem.units import MIB

__all__ = ["Collector"]

_TRIM_AFTER_BYTES = 16 * MIB
_SHORT_PAUSE_S = 0.1  # while Slurm is asked about a death
_MOST_PORTIONS = 100  # in a round: nodes may write faster than the master reads

ToFree = Callable[[str], dict[str, int]]
RemoteReader = Callable[
    [dict[str, dict[str, int]], ToFree, WantedInterval | None], Iterator[tuple[str, SpoolNews | str]]
]


class Collector:
    """Reads the spools about twice a second, so that the run directory is less than a second behind them.

    With very many nodes, or a slow disk, it reads less often (`pace.py`).

    Parameters
    ----------
    run_id : str
    replicas : Replicas
    observers : Observers
    interval_s : float or None
        Interval of the sampler; None where memory is not measured.
    node_found : callable
        Called when a node appears for the first time, once it is in `nodes`.
    room_bytes : int
        Maximum size of a node's spool, not counting lines that have not been copied yet.
    deliver : callable
        Called after each portion of lines, without the lock; may run code of the program.
    pace : Pace, optional
        How often to read; by default as in every run.

    Attributes
    ----------
    nodes : dict
        Memory and limits by host name.
    pace : Pace
    """

    def __init__(
        self,
        run_id: str,
        run: RunDirectory,
        replicas: Replicas,
        observers: Observers,
        interval_s: float | None,
        node_found: Callable[[], object],
        room_bytes: int = Settings.spool_size_bytes,
        deliver: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        self._run_id = run_id
        self._replicas = replicas
        self._observers = observers
        self._interval_s = interval_s
        self._node_found = node_found
        self._deliver = deliver
        self._tasks = TaskLines()
        self._offsets: dict[str, dict[str, int]] = {}
        self._room = SpoolRoom(room_bytes, replicas.synced)
        self._deaths = ProcessDeaths(run, self._tasks, observers)
        self._lines = SpoolLines(self._tasks, self._deaths, observers)
        self._copied_bytes = 0
        self._removed: set[str] = set()  # nodes whose spool, or a part of it, was removed
        self._remote: RemoteReader | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="runmem-collector", daemon=True)
        self.nodes: dict[str, dict[str, Any]] = {}
        self.pace = pace or Pace(interval_s)

    def start(self) -> None:
        """Start to collect from this node."""
        self._thread.start()

    def add_remote(self, reader: RemoteReader, unsure: set[tuple[str, int]]) -> None:
        """Collect from other nodes too.

        `reader` takes the offsets by node, a function for the files that a node may free, and the interval that the
        samplers are asked for; it yields (host, news or error text). `unsure` contains the workers, as (node, process
        id), that could not write all their task lines.
        """
        self._remote = reader
        self._deaths.unsure = unsure

    def has_record(self, task_id: int) -> bool:
        """Return True if there is a record of a call."""
        return self._deaths.last_kill(task_id) is not None or self._tasks.has_ended(task_id)

    @property
    def cancelled(self) -> int:
        """Number of tasks that were running when the run was ended early."""
        return self._deaths.cancelled

    @property
    def calls_recorded(self) -> int:
        """Number of calls of the program with a record; several attempts at a call count once."""
        return self._tasks.ended + sum(number < FIRST_NESTED for number in self._deaths.only_killed())

    @property
    def nested_calls_recorded(self) -> int:
        """Number of calls of tasks with a record."""
        return self._tasks.nested_ended + sum(number >= FIRST_NESTED for number in self._deaths.only_killed())

    def running(self, task_id: int) -> TaskRecord | None:
        """Return the record so far of the running attempt at a call; None if there is none."""
        with self._lock:
            return self._tasks.running_record(task_id)

    def cut_off(self, reason: str) -> None:
        """Record unfinished calls of processes that end from now on as cancelled, not as killed."""
        self.collect()
        with self._lock:
            self._deaths.cut_off(reason)

    def died(self, worker: str) -> DiedWorker | None:
        """Return how the worker with this address has died; None: that is not known (yet)."""
        return self._deaths.died(worker)

    def deaths_at_start(self) -> list[StartDeath]:
        """Return the deaths of workers that had not joined the run, in the order in which they were read."""
        return self._deaths.at_start()

    def last_kill(self, task_id: int) -> Kill | None:
        """Return how the last attempt at a task was killed, as far as is known now."""
        return self._deaths.last_kill(task_id)

    def kill_of(self, task_id: int, patience_s: float = 3.0) -> Kill | None:
        """Return how the last attempt at a task was killed, or None; wait up to `patience_s` for it."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and self._interval_s is not None:
            with self._lock:
                if self._deaths.last_kill(task_id) is not None and self._tasks.running_record(task_id) is None:
                    break
            self.collect()
            self._stop.wait(0.05)
        if self._deaths.last_kill(task_id) is None and self._tasks.has_ended(task_id):
            return Kill(
                "the record shows that the task had ended, but the worker process died before it could send the result"
            )
        return self._deaths.last_kill(task_id)

    def _loop(self) -> None:
        while not self._stop.wait(_SHORT_PAUSE_S if self._deaths.are_clear_soon else self.pace.pause_s):
            began_s = time.monotonic()
            self.collect()
            self.pace.round_took(time.monotonic() - began_s, len(self._offsets))
            if self._copied_bytes > _TRIM_AFTER_BYTES:
                trim_free_memory()  # the lines leave many small gaps, which would grow with the number of calls
                self._copied_bytes = 0

    def collect(self, last: bool = False) -> None:
        """Read all new lines now; the last time to the end, otherwise not more than some portions of each node."""
        more, portions = True, 0
        while more and (last or portions < _MOST_PORTIONS):
            portions += 1
            with self._lock:
                more = False
                for news in self._news():
                    self._take(news)
                    more = more or news.more
                if not more:
                    self._deaths.close(last)
            self._deliver()  # so no more than one portion waits for the program's log handlers

    def _news(self) -> Iterator[SpoolNews]:
        local = node_name()
        try:
            offsets, to_free = self._offsets.get(local, {}), self._to_free(local)
            yield read_spool(SpoolQuestion(self._run_id, offsets, self._interval_s, to_free, self.pace.wanted))
        except Exception as error:
            self._observers.data_lost(DataLost(local, f"the spool could not be read: {error}"))
        if self._remote is not None:
            for host, news in self._remote(self._offsets, self._to_free, self.pace.wanted):
                if isinstance(news, SpoolNews):
                    if news.node != local:
                        yield news
                else:
                    self._observers.data_lost(DataLost(host, f"the spool could not be read: {news}"))

    def _to_free(self, node: str) -> dict[str, int]:
        return self._room.to_free(node, self._offsets.get(node, {}))

    def _take(self, news: SpoolNews) -> None:
        self._room.freed(news.node, news.freed)
        offsets = self._offsets.setdefault(news.node, {})
        tasks: dict[int, bytes] = {}
        traces: dict[str, bytes] = {}
        for file, (begin, read) in news.files.items():
            offset = offsets.get(file, 0)
            data = read[offset - begin :] if begin <= offset else b""  # without the part that was copied before
            if not data:
                continue
            self._replicas.write(news.node, file, offset, data)
            offsets[file] = offset + len(data)
            self._copied_bytes += len(data)
            if (pid := worker_of_tasks(file)) is not None:
                tasks[pid] = data
                continue
            if is_trace(file):
                traces[file] = data
            elif file == JOBS:
                self._note_node(news)
                self._note_jobs(news.node, self._lines.read_jobs(news.node, data))
            else:
                self._lines.read(news.node, file, data)
        if tasks:
            self._note_node(news)
            self._lines.read_tasks(news.node, tasks)
        for file, data in traces.items():  # after the tasks: whether a worker was busy that Dask has ended
            self._note_node(news)
            self._lines.read(news.node, file, data)
        if news.is_lost:
            self._deaths.note_lost_node(news.node)
        self._deaths.note_dead(news.node, news.dead)
        if news.gone and news.node not in self._removed:
            self._removed.add(news.node)
            self._deaths.note_incomplete(news.node)
            gone = f"{news.gone} was removed or cut during the run: later measurements of this node are lost"
            self._observers.data_lost(DataLost(news.node, gone))

    def _note_node(self, news: SpoolNews) -> None:
        if news.node in self.nodes:
            return
        self.nodes[news.node] = {
            "memory_bytes": news.memory_bytes,
            "limit_bytes": news.limit_bytes,
            "limit_source": news.limit_source,
        }
        self._node_found()

    def _note_jobs(self, node: str, jobs: Iterable[str]) -> None:
        known = self.nodes[node]
        before = known.get("jobs", [])
        if new := [job for job in dict.fromkeys(jobs) if job not in before]:
            self.nodes[node] = {**known, "jobs": [*before, *new]}  # not in place: another thread may write it

    def finish(self, all_ended: bool) -> None:
        """Collect for the last time and complete the replicas.

        Parameters
        ----------
        all_ended : bool
            See `ProcessDeaths.close_all`.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.collect(last=True)
        self._deaths.close_all(all_ended)
        for lost in self._replicas.finish():
            self._observers.data_lost(lost)
        if self._tasks.skipped:
            reason = f"{self._tasks.skipped} incomplete or unrecognised lines were skipped"
            self._observers.data_lost(DataLost("task lines", reason))
