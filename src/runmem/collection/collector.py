"""Copies the spools of the nodes to the master while the program runs, and reports events to the observers.

::

    runmem-collector (twice a second)  ┐
    program's thread (kill_of,         ├─ `_lock` ─> read spools ─> replicas, TaskLines, observers
      cut_off, finish, log of tasks)   ┘                 ^
                                                          └ other nodes: answers of their nannies (remote_nodes.py)
    after each round, without the lock: `deliver` runs the program's log handlers, in the thread that has collected
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from runmem.collection.job_ends import JobEnds
from runmem.collection.killed_tasks import with_tasks_in_process
from runmem.collection.observer import Observers
from runmem.collection.pace import Pace, WantedInterval
from runmem.collection.replicas import Replicas
from runmem.collection.spool_reader import SpoolNews, read_spool
from runmem.collection.spool_room import SpoolRoom
from runmem.deaths import Cause, Death
from runmem.events import (
    FIRST_NESTED,
    CaptureReceived,
    DataLost,
    LogLines,
    MemoryManaged,
    NodeSampled,
    ProfileReported,
    RecordLines,
    TaskKilled,
    TaskMeasured,
    TaskRecord,
    TasksRunning,
    TaskStarted,
)
from runmem.formats.memory_events import MemoryEvent
from runmem.formats.mprof import read_trace
from runmem.formats.totals import offset_before
from runmem.memory.allocator import trim_free_memory
from runmem.settings import Settings
from runmem.store.batch_job import BatchJob, job_in_line
from runmem.store.layout import RunDirectory
from runmem.store.node_name import node_name
from runmem.store.records import LOST_END, killed, record_from_line, record_to_line
from runmem.store.run import readings_of, with_children
from runmem.store.task_lines import TaskLines
from runmem.units import MIB

__all__ = ["Collector", "DiedWorker", "Kill", "StartDeath"]

_TRIM_AFTER_BYTES = 16 * MIB
_MOST_PORTIONS = 100  # in a round: nodes may write faster than the master reads
_LONGEST_CAUSE_WAIT_S = 1.0  # for the cause of a death, after the death itself
_NODE_GONE = "the node was lost: neither its workers nor their nannies are connected any more"
_ONLY_THERE = "what happened there is known on that node only, if it still runs"
_UNKNOWN_DEATH = "the worker process died for an unknown reason"
_NO_NANNY = "no nanny has noted the node's free memory and the other tasks then"
_TASKS = re.compile(r"tasks-(\d+)\.jsonl")
_PROFILES = re.compile(r"profiles-(\d+)\.jsonl")
_CAPTURES = re.compile(r"captures-(\d+)\.jsonl")
_LOGS = re.compile(r"logs-(\d+)\.jsonl")
_EVENT = re.compile(rb"^EVENT .*$", re.MULTILINE)
_LOST = re.compile(rb"^LOST (\d+) ", re.MULTILINE)
_DEATHS = re.compile(r"deaths-(\d+)\.jsonl")
_JOBS = "jobs.jsonl"
_ASKING_PAUSE_S = 0.1

ToFree = Callable[[str], dict[str, int]]
RemoteReader = Callable[
    [dict[str, dict[str, int]], ToFree, WantedInterval | None], Iterator[tuple[str, SpoolNews | str]]
]


class _Noted(NamedTuple):
    """The death of a process as noted on its node; if a time limit was exceeded, the task and its stack."""

    death: Death
    task_id: int | None = None
    stack: str | None = None


class DiedWorker(NamedTuple):
    """The death of a worker, and the numbers of the calls that ran there; empty: none did, or they are not known."""

    death: Death
    calls: frozenset[int] = frozenset()


class StartDeath(NamedTuple):
    """The death of a worker on a node before it had joined the run."""

    node: str
    death: Death


class Kill(NamedTuple):
    """What is known of the end of a call whose process died.

    Attributes
    ----------
    text : str
        The cause, as a sentence without its full stop.
    record : TaskRecord or None
        Record of the last killed attempt; its `death` has the facts. None if there is none.
    death : Death or None
        For a call without a record; None: not known.
    """

    text: str
    record: TaskRecord | None = None
    death: Death | None = None


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
    cancelled : int
        Number of tasks that were running when the run was ended early.
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
        self._run = run
        self._replicas = replicas
        self._observers = observers
        self._interval_s = interval_s
        self._node_found = node_found
        self._deliver = deliver
        self._tasks = TaskLines()
        self._offsets: dict[str, dict[str, int]] = {}
        self._room = SpoolRoom(room_bytes, replicas.synced)
        self._causes: dict[tuple[str, int], _Noted] = {}
        self._died: dict[str, DiedWorker] = {}
        self._deaths_at_start: list[StartDeath] = []
        self._dead: dict[tuple[str, int], float] = {}
        self._closed: set[tuple[str, int]] = set()
        self._copied_bytes = 0
        self._cut_off: str | None = None
        self._died_before: set[tuple[str, int]] = set()  # before the calls were cut off
        self._jobs: dict[tuple[str, int], BatchJob] = {}
        self._job_ends = JobEnds()
        self._gone: set[str] = set()
        self._kills: dict[int, Kill] = {}
        self._unsure: set[tuple[str, int]] = set()
        self._remote: RemoteReader | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="runmem-collector", daemon=True)
        self.nodes: dict[str, dict[str, Any]] = {}
        self.cancelled = 0
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
        self._unsure = unsure

    def has_record(self, task_id: int) -> bool:
        """Return True if there is a record of a call."""
        return task_id in self._kills or self._tasks.has_ended(task_id)

    @property
    def calls_recorded(self) -> int:
        """Number of calls of the program with a record; several attempts at a call count once."""
        return self._tasks.ended + sum(number < FIRST_NESTED for number in self._kills_alone())

    @property
    def nested_calls_recorded(self) -> int:
        """Number of calls of tasks with a record."""
        return self._tasks.nested_ended + sum(number >= FIRST_NESTED for number in self._kills_alone())

    def _kills_alone(self) -> list[int]:
        """Return the calls that were killed and never ended otherwise."""
        return [task_id for task_id in self._kills if not self._tasks.has_ended(task_id)]

    def running(self, task_id: int) -> TaskRecord | None:
        """Return the record so far of the running attempt at a call; None if there is none."""
        with self._lock:
            return self._tasks.running_record(task_id)

    def cut_off(self, reason: str) -> None:
        """Record unfinished calls of processes that end from now on as cancelled, not as killed."""
        self.collect()
        with self._lock:
            self._died_before = {key for key in self._dead if key in self._causes}
            self._cut_off = reason

    def died(self, worker: str) -> DiedWorker | None:
        """Return how the worker with this address has died; None: that is not known (yet)."""
        return self._died.get(worker)

    def deaths_at_start(self) -> list[StartDeath]:
        """Return the deaths of workers that had not joined the run, in the order in which they were read."""
        return list(self._deaths_at_start)

    def last_kill(self, task_id: int) -> Kill | None:
        """Return how the last attempt at a task was killed, as far as is known now."""
        return self._kills.get(task_id)

    def kill_of(self, task_id: int, patience_s: float = 3.0) -> Kill | None:
        """Return how the last attempt at a task was killed, or None; wait up to `patience_s` for it."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and self._interval_s is not None:
            with self._lock:
                if task_id in self._kills and self._tasks.running_record(task_id) is None:
                    break
            self.collect()
            self._stop.wait(0.05)
        if task_id not in self._kills and self._tasks.has_ended(task_id):
            return Kill(
                "the record shows that the task had ended, but the worker process died before it could send the result"
            )
        return self._kills.get(task_id)

    def _loop(self) -> None:
        while not self._stop.wait(_ASKING_PAUSE_S if self._job_ends.is_asking else self.pace.pause_s):
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
                    self._close_dead(last)
            self._deliver()  # so no more than one portion waits for the program's log handlers

    def _news(self) -> Iterator[SpoolNews]:
        local = node_name()
        try:
            offsets, to_free = self._offsets.get(local, {}), self._to_free(local)
            yield read_spool(self._run_id, offsets, self._interval_s, to_free, self.pace.wanted)
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
        tasks: dict[int, bytes] = {}
        traces: dict[str, bytes] = {}
        for file, data in self._copied(news):
            if match := _TASKS.fullmatch(file):
                tasks[int(match[1])] = data
            elif file.endswith(".dat"):
                traces[file] = data
            else:
                self._read(news, file, data)
        if tasks:
            self._note_node(news)
            self._read_tasks(news.node, tasks)
        for file, data in traces.items():  # after the tasks: whether a worker was busy that Dask has ended
            self._read(news, file, data)
        if news.is_lost:
            self._note_lost_node(news.node)
        for pid in news.dead:
            self._dead.setdefault((news.node, pid), time.monotonic())
        if news.gone and news.node not in self._gone:
            self._gone.add(news.node)
            gone = f"{news.gone} was removed or cut during the run: later measurements of this node are lost"
            self._observers.data_lost(DataLost(news.node, gone))

    def _copied(self, news: SpoolNews) -> Iterator[tuple[str, bytes]]:
        """Copy what is new in the files of a node; yield it with the names of the files."""
        offsets = self._offsets.setdefault(news.node, {})
        for file, (begin, read) in news.files.items():
            offset = offsets.get(file, 0)
            data = read[offset - begin :] if begin <= offset else b""  # without the part that was copied before
            if data:
                self._replicas.write(news.node, file, offset, data)
                offsets[file] = offset + len(data)
                self._copied_bytes += len(data)
                yield file, data

    def _note_lost_node(self, node: str) -> None:
        """Note that the processes of a node that run tasks are gone, with their nannies."""
        for pid in self._tasks.busy_processes(node):
            death = Death(Cause.NODE_GONE, _NODE_GONE, missing=_ONLY_THERE)
            self._causes.setdefault((node, pid), _Noted(death))
            self._dead.setdefault((node, pid), time.monotonic())

    def _read(self, news: SpoolNews, file: str, data: bytes) -> None:
        """Read new lines of a file; damaged ones are reported."""
        try:
            self._read_lines(news, file, data)
        except (ValueError, KeyError, TypeError) as error:  # later lines are read
            reason = f"lines that cannot be read ({type(error).__name__}: {error})"
            self._observers.data_lost(DataLost(f"{news.node}/{file}", reason))

    def _read_lines(self, news: SpoolNews, file: str, data: bytes) -> None:
        if _PROFILES.fullmatch(file):
            for line in data.splitlines():
                self._observers.profile_reported(ProfileReported(**json.loads(line)))
        elif _CAPTURES.fullmatch(file):
            self._read_captures(data)
        elif _LOGS.fullmatch(file):
            self._observers.records_logged(LogLines(news.node, data))
        elif _DEATHS.fullmatch(file):
            self._read_deaths(news.node, data)
        elif file == _JOBS:
            self._note_node(news)
            for line in data.splitlines():
                self._note_job(news.node, *job_in_line(line))
        elif file.endswith(".dat") and not file.startswith("mprofile_"):
            self._note_node(news)
            self._read_trace(news.node, file, data)

    def _read_deaths(self, node: str, data: bytes) -> None:
        for line in data.splitlines():
            noted = json.loads(line)
            if (death := Death.from_values(noted)) is None:
                raise ValueError("the death of a process without its cause")
            self._causes.setdefault((node, noted["pid"]), _Noted(death, noted.get("task_id"), noted.get("stack")))
            if "worker" not in noted:
                self._deaths_at_start.append(StartDeath(node, death))
            else:
                self._died.setdefault(noted["worker"], DiedWorker(death, frozenset(noted["calls"])))

    def _note_job(self, node: str, pid: int, job: BatchJob) -> None:
        self._jobs[node, pid] = job
        known = self.nodes[node]
        if str(job) not in (jobs := known.get("jobs", [])):
            self.nodes[node] = {**known, "jobs": [*jobs, str(job)]}  # anew: another thread may write it

    def _read_captures(self, data: bytes) -> None:
        for line in data.splitlines():
            part = json.loads(line)
            received = CaptureReceived(part["file"], part["offset"], b64decode(part["data"]))
            self._observers.capture_received(received)

    def _read_tasks(self, node: str, chunks: dict[int, bytes]) -> None:
        fed = self._tasks.feed(node, chunks)
        self._observers.tasks_running(TasksRunning(self._tasks.running))
        records = b"".join(fed.records)
        if records:
            self._observers.records_written(RecordLines(records, len(fed.records)))
        if self._observers.hears("task_started"):
            for begun in fed.started:
                if (record := begun.record()) is not None:
                    self._observers.task_started(TaskStarted(record))
        if self._observers.hears("task_measured"):
            for line in records.splitlines():
                if (record := record_from_line(line)) is not None:
                    self._observers.task_measured(TaskMeasured(record))

    def _read_trace(self, node: str, file: str, data: bytes) -> None:
        if (begin := _last_line(data, b"MEM ")) >= 0:
            _, size, time_s = data[begin : data.find(b"\n", begin)].split()
            self._observers.node_sampled(NodeSampled(node, float(time_s), int(float(size) * MIB)))
        for line in _EVENT.findall(data) if b"EVENT " in data else []:
            event = MemoryEvent.parse(line)
            self._observers.memory_managed(_managed(node, event, self._tasks.is_busy(node, event.pid)))
        for number in _LOST.findall(data) if b"LOST " in data else []:  # the search alone takes longer than the copy
            reason = f"the node could not write {int(number)} lines (disk full?)"
            self._observers.data_lost(DataLost(f"{node}/{file}", reason))

    def _note_node(self, news: SpoolNews) -> None:
        if news.node in self.nodes:
            return
        self.nodes[news.node] = {
            "memory_bytes": news.memory_bytes, "limit_bytes": news.limit_bytes, "limit_source": news.limit_source,
        }  # fmt: skip
        self._node_found()

    def _close_dead(self, last: bool) -> None:
        """Record the unfinished tasks of dead processes as killed, once the cause is known or overdue."""
        for (node, pid), since in list(self._dead.items()):
            if (node, pid) in self._closed:
                continue
            noted = self._causes.get((node, pid))
            if noted is None and not last and time.monotonic() - since < _LONGEST_CAUSE_WAIT_S:
                continue
            death = noted.death if noted is not None else Death(Cause.UNKNOWN, _UNKNOWN_DEATH, missing=_NO_NANNY)
            if death.cause in (Cause.UNKNOWN, Cause.NODE_GONE) and self._cut_off is None:
                by_job = self._death_in_job(node, pid, death)
                if by_job is None and not last:
                    continue
                death = by_job or death
            self._closed.add((node, pid))
            unfinished = self._tasks.pop_unfinished(node, pid)
            if noted is not None and noted.task_id is not None:
                late = [replace(record, stack=noted.stack) for record in unfinished if record.task_id == noted.task_id]
                self._record_unfinished(late, death, "killed")
                unfinished = [record for record in unfinished if record.task_id != noted.task_id]
                words = f"call {noted.task_id}, which ran in the same process, reached its time limit"
                death = replace(death, words=words)
            if self._cut_off is not None and (node, pid) not in self._died_before:
                self._record_unfinished(unfinished, Death.unknown(self._cut_off), "cancelled")
            else:
                self._record_unfinished(unfinished, death, "killed")

    def _death_in_job(self, node: str, pid: int, death: Death) -> Death | None:
        """Return a death with what is known of the batch job; None: more will be known soon."""
        job = self._jobs.get((node, pid))
        if job is None or not self._tasks.is_busy(node, pid):
            return death
        return self._job_ends.death((node, pid), job, death)

    def _record_unfinished(self, unfinished: list[TaskRecord], death: Death, status: str) -> None:
        """Write records for tasks that cannot end, because their process died or the run no longer waits for it."""
        sure = [record for record in unfinished if not self._is_unsure(record)]
        self._end_as_lost([record for record in unfinished if self._is_unsure(record)])
        if not sure:
            return
        began_s = min(record.start_s for record in sure)  # so that a trace of several days is not read in full
        traces = [read_trace(path, offset_before(path, began_s)) for path in self._traces()]
        for record in sure:
            its = with_tasks_in_process(death, [other for other in unfinished if other is not record])
            done = with_children(killed(record, readings_of(traces, record.pid), its, status), traces)
            self._kills[record.task_id] = Kill(done.reason or _UNKNOWN_DEATH, done)
            self.cancelled += status == "cancelled"
            if status == "killed":
                self._observers.task_killed(TaskKilled(done))
            self._observers.records_written(RecordLines(record_to_line(done), 1))
            self._observers.task_measured(TaskMeasured(done))

    def _traces(self) -> list[Path]:
        return list(self._run.traces.glob("*.dat"))

    def _is_unsure(self, record: TaskRecord) -> bool:
        """Return True if lines of the process may be missing: the task may have ended instead of being killed."""
        return record.node in self._gone or (record.node, record.pid) in self._unsure

    def _end_as_lost(self, unfinished: list[TaskRecord]) -> None:
        for record in unfinished:
            self._kills[record.task_id] = Kill(LOST_END)
            line = record_to_line(replace(record, reason=LOST_END))
            self._observers.records_written(RecordLines(line, 1))

    def finish(self, all_ended: bool) -> None:
        """Collect for the last time and complete the replicas.

        Parameters
        ----------
        all_ended : bool
            Whether every task has ended. If so, a task without an end line was not killed: its line was lost.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.collect(last=True)
        given_up = self._tasks.pop_unfinished(include_repeated=False)
        left = [record for record in given_up if self._tasks.has_begun_again(record)]
        unfinished = [record for record in given_up if record not in left]
        gone = "its worker left the cluster before the task ended; the task was run again"
        self._record_unfinished(left, Death(Cause.NODE_GONE, gone), "killed")
        if all_ended:
            self._end_as_lost(unfinished)
        else:
            reason = self._cut_off or "the program ended before the task did"
            self._record_unfinished(unfinished, Death.unknown(reason), "cancelled")
        for lost in self._replicas.finish():
            self._observers.data_lost(lost)
        if self._tasks.skipped:
            reason = f"{self._tasks.skipped} incomplete or unrecognised lines were skipped"
            self._observers.data_lost(DataLost("task lines", reason))


def _managed(node: str, event: MemoryEvent, in_task: bool) -> MemoryManaged:
    return MemoryManaged(
        node, event.pid, event.kind, event.time_s, event.size_bytes, event.spilled_bytes, event.results, in_task
    )


def _last_line(data: bytes, begin: bytes) -> int:
    """Return the offset of the last line that begins so; -1 if there is none."""
    found = data.rfind(b"\n" + begin)
    return found + 1 if found >= 0 else data.startswith(begin) - 1
