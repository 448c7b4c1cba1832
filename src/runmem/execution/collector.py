"""Brings what the nodes spool to the master while the program runs, and tells the observers what it says."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from runmem.events import (
    DataLost,
    LogLines,
    NodeSampled,
    ProfileReported,
    RecordLines,
    TaskMeasured,
    TaskRecord,
    TaskStarted,
)
from runmem.execution.observer import Observers
from runmem.execution.spool_reader import SpoolNews, read_spool
from runmem.execution.spool_room import SpoolRoom
from runmem.formats.mprof import read_trace
from runmem.formats.totals import offset_before
from runmem.settings import Settings
from runmem.store.layout import RunDirectory
from runmem.store.node_name import node_name
from runmem.store.output import link_file, look, place_file
from runmem.store.records import killed, record_from_line, record_to_line
from runmem.store.run import readings_of
from runmem.store.task_lines import TaskLines
from runmem.units import MIB, format_bytes

__all__ = ["Collector", "Replicas"]

INTERVAL_S = 0.4
_BACKLOG_BYTES = 64 * MIB
_TASKS = re.compile(r"tasks-(\d+)\.jsonl")
_PROFILES = re.compile(r"profiles-(\d+)\.jsonl")
_LOGS = re.compile(r"logs-(\d+)\.jsonl")
_BUDGET = re.compile(r"used more than (\d+) % of its memory limit")  # as `nanny.cause_of` says it
_DEATHS = re.compile(r"deaths-(\d+)\.jsonl")

ToFree = Callable[[str], dict[str, int]]
RemoteReader = Callable[[dict[str, dict[str, int]], ToFree], Iterator[tuple[str, SpoolNews | str]]]


class Replicas:
    """Copies of the nodes' spool files, written at the offsets at which they were read.

    Writing twice is harmless. What cannot be written (a full disk) is kept in memory up to 64 MiB and tried again.

    Parameters
    ----------
    run : RunDirectory
    trace_folder : Path
        Where the `.dat` traces appear beside the run directory, under their own names.
    """

    def __init__(self, run: RunDirectory, trace_folder: Path) -> None:
        self._run = run
        self._trace_folder = trace_folder
        self._backlog: dict[Path, list[tuple[int, bytes]]] = {}
        self._kept = 0
        self._missing: dict[Path, int] = {}  # where what was lost begins
        self.lost: dict[Path, int] = {}
        self.links: dict[Path, Path] = {}
        self._linked: set[Path] = set()

    def write(self, node: str, file: str, offset: int, data: bytes) -> None:
        """Write `data` at `offset` of the replica of `file` of `node`."""
        path = self._run.replica(node, file)
        waiting = self._backlog.pop(path, [])
        self._kept -= sum(len(kept) for _, kept in waiting)
        for start, piece in [*waiting, (offset, data)]:
            if (written := self._put(path, start, piece)) < len(piece):
                self._keep(path, start + written, piece[written:])
        if file.endswith(".dat"):
            self._link(path)

    def _put(self, path: Path, offset: int, data: bytes) -> int:
        """Write what can be written of `data` at `offset`; return how many bytes that is."""
        written = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return 0
        try:
            while written < len(data):
                written += os.pwrite(fd, memoryview(data)[written:], offset + written)
        except OSError:
            pass  # a full disk: tried again with the next lines
        finally:
            os.close(fd)
        return written

    def _keep(self, path: Path, offset: int, data: bytes) -> None:
        if self._kept + len(data) > _BACKLOG_BYTES:
            self.lost[path] = self.lost.get(path, 0) + len(data)
            self._missing[path] = min(offset, self._missing.get(path, offset))
            return
        self._kept += len(data)
        self._backlog.setdefault(path, []).append((offset, data))

    def synced(self, node: str, file: str, end: int) -> int:
        """Return up to which offset, at most `end`, a replica has all, and that on its disk; 0: it is not known."""
        path = self._run.replica(node, file)
        waiting = [offset for offset, _ in self._backlog.get(path, [])]
        end = min(end, self._missing.get(path, end), *waiting)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            os.fsync(fd)
            return end if os.fstat(fd).st_size >= end else 0
        except OSError:
            return 0
        finally:
            os.close(fd)

    def _link(self, path: Path) -> None:
        """Let the trace appear in the trace folder; that of an earlier run gives way (its run directory keeps it)."""
        if path in self.links or not path.exists():
            return
        shown = self._trace_folder / path.name
        try:
            self._trace_folder.mkdir(parents=True, exist_ok=True)
            if path.name.startswith("mprofile_"):
                shown = _linked_as_new(path, self._trace_folder)
            else:
                link_file(path, shown)
            self._linked.add(path)
        except OSError:
            pass  # another file system, or no regular file is there: copied at the end
        self.links[path] = shown

    def finish(self) -> list[DataLost]:
        """Write what is left, cut torn ends, bring the traces to their folder; return what was lost."""
        for path, waiting in list(self._backlog.items()):
            left = [(offset + done, len(data) - done) for offset, data in waiting
                    if (done := self._put(path, offset, data)) < len(data)]  # fmt: skip
            if left:
                self.lost[path] = self.lost.get(path, 0) + sum(size for _, size in left)
                _cut_torn_end(path, min(end for end, _ in left))
        lost = [
            DataLost(str(path), f"{size} bytes could not be written (disk full?)") for path, size in self.lost.items()
        ]
        for path, shown in list(self.links.items()):
            try:
                if not shown.exists():
                    _copy_trace(path, shown)
                elif not os.path.samefile(path, shown):
                    if path in self._linked:
                        self.links[path] = path  # another run has begun in this folder, and has the name now
                    else:
                        _copy_trace(path, shown)
            except OSError as error:
                lost.append(
                    DataLost(str(shown), f"the trace could not be copied here: {error.strerror}; it is in {path}")
                )
        return lost


def _linked_as_new(trace: Path, folder: Path) -> Path:
    """Link the trace of a master to a name that is free: of the second in which it began, or the next that is."""
    began = time.mktime(time.strptime(trace.stem, "mprofile_%Y%m%d%H%M%S"))
    for later in count():
        shown = folder / time.strftime("mprofile_%Y%m%d%H%M%S.dat", time.localtime(began + later))
        with suppress(FileExistsError):
            os.link(trace, shown)
            return shown
    raise AssertionError


def _copy_trace(path: Path, shown: Path) -> None:
    if look(shown).is_pipe:
        raise OSError(errno.EINVAL, "it is a pipe, and may have no reader", str(shown))  # the run would not end
    place_file(path, shown, share=False)


def _cut_torn_end(path: Path, written: int) -> None:
    """Leave only whole lines of the first `written` bytes and what may have been written after them."""
    try:
        data = path.read_bytes()[: max(written, 0)] if path.exists() else b""
        os.truncate(path, data.rfind(b"\n") + 1)
    except OSError:
        pass


class Collector:
    """Reads the spools about twice a second and keeps the run directory less than a second behind them.

    Parameters
    ----------
    run_id : str
    replicas : Replicas
    observers : Observers
    interval_s : float or None
        Interval of the sampler; None where memory is not measured.
    node_found : callable
        Called when a node is heard of for the first time, once `nodes` knows it.
    room_bytes : int
        What the spool of a node may take, beside what is not here yet.
    deliver : callable
        Called after each portion, outside of all locks: for what may take the time of the program's own code.
    """

    def __init__(
        self,
        run_id: str,
        run: RunDirectory,
        replicas: Replicas,
        observers: Observers,
        interval_s: float | None,
        node_found: Callable[[], None],
        room_bytes: int = Settings.spool_size_bytes,
        deliver: Callable[[], None] = lambda: None,
    ) -> None:
        self._run_id = run_id
        self._run = run
        self._replicas = replicas
        self._observers = observers
        self._interval_s = interval_s
        self._node_found = node_found
        self._deliver = deliver
        self._tasks = TaskLines(tell_begun=observers.hears("task_started"))
        self._offsets: dict[str, dict[str, int]] = {}
        self._room = SpoolRoom(room_bytes, replicas.synced)
        self._causes: dict[tuple[str, int], str] = {}
        self._dead: dict[tuple[str, int], float] = {}
        self._buried: set[tuple[str, int]] = set()
        self._kills: dict[int, str] = {}
        self._remote: RemoteReader | None = None
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="runmem-collector", daemon=True)
        self.nodes: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        """Begin to collect from this node."""
        self._thread.start()

    def add_remote(self, reader: RemoteReader) -> None:
        """Collect from other nodes too.

        `reader` takes offsets by node and what tells what a node may free, and yields (host, news or error text).
        """
        self._remote = reader

    def killed_reason(self, task_id: int, patience_s: float = 3.0) -> str | None:
        """Return what is known of why the last attempt at a task was killed; wait for it a little."""
        deadline = time.monotonic() + patience_s
        while task_id not in self._kills and time.monotonic() < deadline and self._interval_s is not None:
            self.collect()
            self._stop.wait(0.05)
        return self._kills.get(task_id)

    def _loop(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.collect()

    def collect(self, last: bool = False) -> None:
        """Read all that is new, now."""
        more = True
        while more:
            with self._turn:
                more = False
                for news in self._news():
                    self._take(news)
                    more = more or news.more
                if not more:
                    self._bury(last)
            self._deliver()  # what waits for the program's own handlers is no more than one portion

    def _news(self) -> Iterator[SpoolNews]:
        local = node_name()
        try:
            yield read_spool(self._run_id, self._offsets.get(local, {}), self._interval_s, self._to_free(local))
        except Exception as error:
            self._observers.tell("data_lost", DataLost(local, f"the spool could not be read: {error}"))
        if self._remote is not None:
            for host, news in self._remote(self._offsets, self._to_free):
                if isinstance(news, SpoolNews):
                    if news.node != local:
                        yield news
                else:
                    self._observers.tell("data_lost", DataLost(host, f"the spool could not be read: {news}"))

    def _to_free(self, node: str) -> dict[str, int]:
        return self._room.to_free(node, self._offsets.get(node, {}))

    def _take(self, news: SpoolNews) -> None:
        self._room.freed(news.node, news.freed)
        offsets = self._offsets.setdefault(news.node, {})
        tasks: dict[int, bytes] = {}
        for file, (begin, read) in news.files.items():
            offset = offsets.get(file, 0)
            data = read[offset - begin :] if begin <= offset else b""  # of what came twice, the rest
            if not data:
                continue
            self._replicas.write(news.node, file, offset, data)
            offsets[file] = offset + len(data)
            if match := _TASKS.fullmatch(file):
                tasks[int(match[1])] = data
                continue
            try:
                self._read(news, file, data)
            except (ValueError, KeyError, TypeError) as error:  # damaged; the copy has it, and the next lines come
                reason = f"lines that cannot be read ({type(error).__name__}: {error})"
                self._observers.tell("data_lost", DataLost(f"{news.node}/{file}", reason))
        if tasks:
            self._note_node(news)
            self._read_tasks(news.node, tasks)
        for pid in news.dead:
            self._dead.setdefault((news.node, pid), time.monotonic())

    def _read(self, news: SpoolNews, file: str, data: bytes) -> None:
        if _PROFILES.fullmatch(file):
            for line in data.splitlines():
                self._observers.tell("profile_reported", ProfileReported(**json.loads(line)))
        elif _LOGS.fullmatch(file):
            self._observers.tell("records_logged", LogLines(news.node, data))
        elif _DEATHS.fullmatch(file):
            for line in data.splitlines():
                death = json.loads(line)
                self._causes.setdefault((news.node, death["pid"]), death["cause"])
        elif file.endswith(".dat") and not file.startswith("mprofile_"):
            self._note_node(news)
            self._read_trace(news.node, file, data)

    def _read_tasks(self, node: str, chunks: dict[int, bytes]) -> None:
        fed = self._tasks.feed(node, chunks)
        self._observers.tell("tasks_running", self._tasks.running)
        records = b"".join(fed.records)
        if records:
            self._observers.tell("records_written", RecordLines(records, fed.count))
        for begun in fed.begun:
            if (record := begun.record()) is not None:
                self._observers.tell("task_started", TaskStarted(record))
        if self._observers.hears("task_measured"):
            for line in records.splitlines():
                if (record := record_from_line(line)) is not None:
                    self._observers.tell("task_measured", TaskMeasured(record))

    def _read_trace(self, node: str, file: str, data: bytes) -> None:
        lines = [line.split() for line in data.splitlines() if line.startswith((b"MEM ", b"LOST "))]
        for _, size, time_s in [line for line in lines if line[0] == b"MEM"][-1:]:
            self._observers.tell("node_sampled", NodeSampled(node, float(time_s), int(float(size) * MIB)))
        for _, number, *_ in [line for line in lines if line[0] == b"LOST"]:
            reason = f"the node could not write {int(number)} lines (disk full?)"
            self._observers.tell("data_lost", DataLost(f"{node}/{file}", reason))

    def _note_node(self, news: SpoolNews) -> None:
        if news.node in self.nodes:
            return
        self.nodes[news.node] = {
            "memory_bytes": news.memory_bytes, "limit_bytes": news.limit_bytes, "limit_source": news.limit_source,
        }  # fmt: skip
        self._node_found()

    def _bury(self, last: bool) -> None:
        """Turn the unfinished tasks of dead processes into records of killed tasks, once the cause had time to come."""
        for (node, pid), since in list(self._dead.items()):
            if (node, pid) in self._buried:
                continue
            cause = self._causes.get((node, pid))
            if cause is None and not last and time.monotonic() - since < 1.0:
                continue
            self._buried.add((node, pid))
            self._end_as_killed(self._tasks.give_up(node, pid), cause or "the worker process died; nothing says why")

    def _end_as_killed(self, unfinished: list[TaskRecord], reason: str) -> None:
        if not unfinished:
            return
        began_s = min(record.start_s for record in unfinished)  # a trace of days is not read from its beginning
        traces = [read_trace(path, offset_before(path, began_s)) for path in self._run.traces.glob("*.dat")]
        for record in unfinished:
            budget = _BUDGET.search(reason)
            at_least = int(record.limit_bytes * int(budget[1]) / 100) if budget and record.limit_bytes else None
            done = killed(record, readings_of(traces, record.pid), reason, at_least)
            self._kills[record.task_id] = _describe(done)
            self._observers.tell("records_written", RecordLines(record_to_line(done), 1))
            self._observers.tell("task_measured", TaskMeasured(done))

    def finish(self, all_ended: bool) -> None:
        """Collect for the last time and complete the replicas.

        Parameters
        ----------
        all_ended : bool
            Whether every task has ended: one without an end line then is one whose line was lost, and not a killed one.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.collect(last=True)
        unfinished = self._tasks.give_up(also_repeated=False)
        if all_ended:
            for record in unfinished:
                line = record_to_line(replace(record, reason="the task ended, and the line that says how was lost"))
                self._observers.tell("records_written", RecordLines(line, 1))
        else:
            self._end_as_killed(unfinished, "the program ended before the task did")
        for lost in self._replicas.finish():
            self._observers.tell("data_lost", lost)
        if self._tasks.skipped:
            reason = f"{self._tasks.skipped} torn or foreign lines were skipped"
            self._observers.tell("data_lost", DataLost("task lines", reason))


def _describe(record: TaskRecord) -> str:
    limit = f" of the worker's limit of {format_bytes(record.limit_bytes)}" if record.limit_bytes else ""
    return (
        f"{record.reason}. Its last reading, on node {record.node}, process {record.pid}, was "
        f"{format_bytes(record.last_bytes)}{limit}; it started at {format_bytes(record.base_bytes)}"
    )
