"""Reports to the observers of a run what new lines of a spool say."""

from __future__ import annotations

import json
import re
from base64 import b64decode

from runmem.collection.observer import Observers
from runmem.collection.process_deaths import ProcessDeaths
from runmem.events import (
    CaptureReceived,
    DataLost,
    LogLines,
    MemoryManaged,
    NodeSampled,
    ProfileReported,
    RecordLines,
    TaskMeasured,
    TasksRunning,
    TaskStarted,
)
from runmem.formats.memory_events import MemoryEvent
from runmem.store.batch_job import job_in_line
from runmem.store.records import record_from_line
from runmem.store.task_lines import TaskLines
from runmem.units import MIB

__all__ = ["SpoolLines", "is_trace", "worker_of_tasks"]

_TASKS = re.compile(r"tasks-(\d+)\.jsonl")
_PROFILES = re.compile(r"profiles-(\d+)\.jsonl")
_CAPTURES = re.compile(r"captures-(\d+)\.jsonl")
_LOGS = re.compile(r"logs-(\d+)\.jsonl")
_DEATHS = re.compile(r"deaths-(\d+)\.jsonl")
_EVENT = re.compile(rb"^EVENT .*$", re.MULTILINE)
_LOST = re.compile(rb"^LOST (\d+) ", re.MULTILINE)


def worker_of_tasks(file: str) -> int | None:
    """Return the process whose task lines a file has; None for another kind of file."""
    return int(match[1]) if (match := _TASKS.fullmatch(file)) is not None else None


def is_trace(file: str) -> bool:
    """Return True for the trace of a node, False for the master's or another kind of file."""
    return file.endswith(".dat") and not file.startswith("mprofile_")


class SpoolLines:
    """Reads the lines of the files of a spool, each kind in its way.

    Parameters
    ----------
    tasks : TaskLines
    deaths : ProcessDeaths
    observers : Observers
    """

    def __init__(self, tasks: TaskLines, deaths: ProcessDeaths, observers: Observers) -> None:
        self._tasks = tasks
        self._deaths = deaths
        self._observers = observers

    def read(self, node: str, file: str, data: bytes) -> None:
        """Read lines of any file but one of task lines; lines that are damaged are reported as lost."""
        try:
            self._read(node, file, data)
        except (ValueError, KeyError, TypeError) as error:  # damaged; later lines are read
            reason = f"lines that cannot be read ({type(error).__name__}: {error})"
            self._observers.data_lost(DataLost(f"{node}/{file}", reason))

    def read_tasks(self, node: str, chunks: dict[int, bytes]) -> None:
        """Read task lines of the workers of a node, by process."""
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

    def read_jobs(self, node: str, data: bytes) -> list[str]:
        """Read the batch jobs of the workers of a node; return the names of those jobs."""
        found = []
        for line in data.splitlines():
            try:
                pid, job = job_in_line(line)
            except (ValueError, KeyError, TypeError):  # damaged: that worker is in no known job
                continue
            self._deaths.note_job(node, pid, job)
            found.append(str(job))
        return found

    def _read(self, node: str, file: str, data: bytes) -> None:
        if _PROFILES.fullmatch(file):
            for line in data.splitlines():
                self._observers.profile_reported(ProfileReported(**json.loads(line)))
        elif _CAPTURES.fullmatch(file):
            for line in data.splitlines():
                part = json.loads(line)
                received = CaptureReceived(part["file"], part["offset"], b64decode(part["data"]))
                self._observers.capture_received(received)
        elif _LOGS.fullmatch(file):
            self._observers.records_logged(LogLines(node, data))
        elif _DEATHS.fullmatch(file):
            for line in data.splitlines():
                self._deaths.note(node, json.loads(line))
        elif is_trace(file):
            self._read_trace(node, file, data)

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


def _managed(node: str, event: MemoryEvent, in_task: bool) -> MemoryManaged:
    return MemoryManaged(
        node, event.pid, event.kind, event.time_s, event.size_bytes, event.spilled_bytes, event.results, in_task
    )


def _last_line(data: bytes, begin: bytes) -> int:
    """Return the offset of the last line that begins so; -1 if there is none."""
    found = data.rfind(b"\n" + begin)
    return found + 1 if found >= 0 else data.startswith(begin) - 1
