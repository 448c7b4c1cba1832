"""The facts about a node and its workers at the time of a death, which are lost a moment later."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from runmem.collection.killed_tasks import name_of
from runmem.deaths import Death
from runmem.events import TaskRecord
from runmem.memory.causes_of_death import in_limited_address_space
from runmem.memory.process import address_space_limit_of, node_free_bytes, resident_bytes_of
from runmem.node.members import read_members, start_ticks
from runmem.store.layout import Spool, worker_series
from runmem.store.task_lines import TaskLines
from runmem.units import format_bytes

__all__ = ["NodeThen", "running_tasks", "with_tasks_beside"]

_TAIL_BYTES = 65536
_MOST_NAMED = 5


class _Process(NamedTuple):
    """A worker process, with the tasks that it runs and its memory."""

    tasks: list[TaskRecord]
    size_bytes: int | None


class NodeThen:
    """Notes what is known of a node while its workers live, and adds it to their deaths.

    Parameters
    ----------
    spool : Spool
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._free_bytes = node_free_bytes()
        self._limits: dict[int, int | None] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Note the node's free memory, and the limits of living workers; called several times a second.

        When a worker has died, its memory is free again, and its limits are gone.
        """
        self._free_bytes = node_free_bytes()
        self._limits = {pid: address_space_limit_of(pid) for pid in pids}

    def complete(self, pid: int, death: Death) -> Death:
        """Return the death of a process with the facts about the node."""
        death = in_limited_address_space(death, self._limits.get(pid))
        missing = [] if death.missing is None else [death.missing]
        free = self._free_bytes
        if free is None:
            missing.append("this system does not say how much memory is free")
        death = replace(death, node_free_bytes=free, missing="; ".join(missing) or None)
        return with_tasks_beside(death, self._spool, pid)


def with_tasks_beside(death: Death, spool: Spool, pid: int) -> Death:
    """Return a death in process `pid`, or in one forked from it, with the tasks in the other workers of the node."""
    try:
        return replace(death, beside=_tasks_beside(spool, pid))
    except Exception as error:
        why = f"the other tasks on the node are not known: {error}"
        return replace(death, missing=why if death.missing is None else f"{death.missing}; {why}")


def _tasks_beside(spool: Spool, pid: int) -> str:
    """Describe the tasks in the other worker processes of the node."""
    found = []
    for member in read_members(str(spool.root)):
        is_worker = member.pid != pid and member.series == worker_series(member.pid)
        if is_worker and (member.start is None or start_ticks(member.pid) == member.start):
            tasks = running_tasks(spool.tasks(member.pid))
            if tasks:
                found.append(_Process(tasks, resident_bytes_of(member.pid)))
    found.sort(key=lambda process: process.size_bytes or 0, reverse=True)
    texts = [
        f"{' and '.join(map(name_of, process.tasks))} with {format_bytes(process.size_bytes)}"
        for process in found[:_MOST_NAMED]
    ]
    if more := found[_MOST_NAMED:]:
        total = sum(process.size_bytes or 0 for process in more)
        texts.append(f"{len(more)} more with {format_bytes(total)} together")
    return ", ".join(texts)


def running_tasks(path: Path) -> list[TaskRecord]:
    """Return the unfinished records in the task lines of a process.

    Limitation: only the last 64 KiB are read, so that of a process with many threads a task that began long ago may be
    missing.
    """
    lines = TaskLines()
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            begin = max(0, os.fstat(descriptor).st_size - _TAIL_BYTES)
            data = os.pread(descriptor, _TAIL_BYTES, begin)
        finally:
            os.close(descriptor)
        whole = data[: data.rfind(b"\n") + 1]
        lines.feed("", {0: whole.partition(b"\n")[2] if begin else whole})
    return lines.pop_unfinished()
