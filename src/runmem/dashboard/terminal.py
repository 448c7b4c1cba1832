"""The view of a run: a status line on a terminal, plain lines in a pipe or file."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

from runmem.collection.killed_tasks import DeathReports
from runmem.dashboard.memory_warnings import MemoryWarnings
from runmem.dashboard.status_line import StatusLine
from runmem.events import ClusterStarted, NodeSampled, TaskEnded, TaskKilled, TasksRunning, TaskSubmitted, TaskWaitedFor
from runmem.standard_error import say
from runmem.units import format_bytes

__all__ = ["PlainView", "LiveView", "terminal_view"]


class PlainView(MemoryWarnings):
    """Prints the address of the dashboard and warnings, in plain lines."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._deaths = DeathReports(stream)

    def task_killed(self, event: TaskKilled) -> None:
        """Print how a task was killed."""
        self._deaths.task_killed(event)

    def cluster_started(self, event: ClusterStarted) -> None:
        """Print the number of workers and the address of the dashboard."""
        where = f"; Dask dashboard: {event.dashboard}" if event.dashboard else ""
        say(f"runmem: {event.workers} worker{'s' * (event.workers != 1)}{where}", self._stream)

    def task_waited_for(self, event: TaskWaitedFor) -> None:
        """Print the task that the run waits for, and possible actions."""
        what = f"task {event.name} (call {event.task_id})"
        if event.running_s is None:
            where, look = "has run for more than a minute", ""
        else:
            where = f"has run for {event.running_s:.0f} s on node {event.node}, process {event.pid}"
            look = f"`py-spy dump --pid {event.pid}` shows its stack; "
        limit = "--task_timeout=SECONDS limits the time of tasks."
        say(f"runmem: {what} {where}, and all other tasks have ended. {look}{limit}", self._stream)

    def close(self) -> None:
        """Do nothing: there is no status line."""


class LiveView(PlainView):
    """Shows a status line: tasks done, running and failed, and the highest memory of a node.

    The line appears with the first task. Until `close`, `sys.stdout` and `sys.stderr` are wrapped if they are
    terminals, so that the program's output does not mix with the line.
    """

    _UPDATE_S = 0.25

    def __init__(self, stream: TextIO) -> None:
        self._line = StatusLine(stream)
        super().__init__(self._line.above(stream))
        self._submitted = self._done = self._failed = self._cancelled = 0
        self._running: int | None = None
        self._has_workers = False
        self._highest: tuple[int, str] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._streams = sys.stdout, sys.stderr
        self._wrappers = tuple(self._line.above(s) if s is not None and s.isatty() else s for s in self._streams)
        sys.stdout, sys.stderr = self._wrappers

    def cluster_started(self, event: ClusterStarted) -> None:
        """Print the number of workers and the address of the dashboard; note that tasks can run."""
        self._has_workers = True
        super().cluster_started(event)

    def task_submitted(self, event: TaskSubmitted) -> None:
        """Count the task; show the line with the first one."""
        self._submitted += 1
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._follow, name="runmem-view", daemon=True)
            self._thread.start()

    def tasks_running(self, event: TasksRunning) -> None:
        """Update the number of running tasks."""
        self._running = event.count

    def task_ended(self, event: TaskEnded) -> None:
        """Count finished and failed tasks."""
        self._done += event.status == "finished"
        self._failed += event.status == "failed"
        self._cancelled += event.status == "cancelled"

    def node_sampled(self, event: NodeSampled) -> None:
        """Update the highest memory of a node."""
        if self._highest is None or event.total_bytes > self._highest[0]:
            self._highest = event.total_bytes, event.node

    def line(self) -> str:
        """Return the current text of the line."""
        unfinished = self._submitted - self._done - self._failed - self._cancelled
        running = max(0, min(unfinished, self._running or 0))
        parts = [] if self._has_workers else ["workers are starting"]
        parts.append(f"{self._done} done")
        if self._running is not None:
            parts.append(f"{running} running")
        parts.append(f"{unfinished - running} to do")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._highest is not None:
            parts.append(f"highest node memory {format_bytes(self._highest[0])} ({self._highest[1]})")
        return "runmem: " + ", ".join(parts)

    def _follow(self) -> None:
        while True:
            self._line.show(self.line())
            if self._ended.wait(self._UPDATE_S):
                return

    def close(self) -> None:
        """Erase the line and restore the streams, unless the program has replaced them."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self._line.hide()
        if sys.stdout is self._wrappers[0]:
            sys.stdout = self._streams[0]
        if sys.stderr is self._wrappers[1]:
            sys.stderr = self._streams[1]


def terminal_view(stream: TextIO | None) -> PlainView:
    """Return a `LiveView` for a terminal, a `PlainView` for pipes, files and terminals without control codes.

    A `LiveView` changes `sys.stdout` and `sys.stderr` until it is closed.
    """
    if stream is None:
        return PlainView(None)
    return LiveView(stream) if stream.isatty() and os.environ.get("TERM") != "dumb" else PlainView(stream)
