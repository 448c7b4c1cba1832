"""The view on a terminal: one line that follows the run. In a pipe there are plain lines only."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, TextIO

from runmem.events import NodeSampled, TaskEnded, TaskSubmitted
from runmem.execution.observer import Observer
from runmem.units import format_bytes

__all__ = ["PlainView", "LiveView", "terminal_view"]


class PlainView(Observer):
    """Says where the dashboard is, in plain lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def cluster_started(self, dashboard: str | None, workers: int) -> None:
        """Say how many workers there are and where to look at them."""
        where = f"; Dask dashboard: {dashboard}" if dashboard else ""
        print(f"runmem: {workers} worker{'s' * (workers != 1)}{where}", file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left on the screen."""


class LiveView(PlainView):
    """Keeps one line up to date: tasks done, running and failed, and the highest memory of a node."""

    _EVERY_S = 0.25

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._submitted = self._done = self._failed = 0
        self._running: int | None = None
        self._highest: tuple[int, str] | None = None
        self._lock = threading.Lock()
        self._live: Any = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def task_submitted(self, event: TaskSubmitted) -> None:
        """Count; the line appears with the first task."""
        self._submitted += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="runmem-view", daemon=True)
            self._thread.start()

    def tasks_running(self, running: int) -> None:
        """Count."""
        self._running = running

    def task_ended(self, event: TaskEnded) -> None:
        """Count."""
        self._done += event.status == "finished"
        self._failed += event.status == "failed"

    def node_sampled(self, event: NodeSampled) -> None:
        """Remember the highest."""
        if self._highest is None or event.total_bytes > self._highest[0]:
            self._highest = event.total_bytes, event.node

    def line(self) -> str:
        """Return the line as it is now."""
        waiting = self._submitted - self._done - self._failed
        parts = [f"{self._done} done", f"{waiting} to do"]
        if self._running is not None:
            parts.insert(1, f"{max(0, min(waiting, self._running))} running")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._highest is not None:
            parts.append(f"highest node memory {format_bytes(self._highest[0])} ({self._highest[1]})")
        return "runmem: " + ", ".join(parts)

    def _follow(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(file=self._stream)
        with Live(
            Text(self.line()), console=console, transient=True, auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(), redirect_stderr=True,
        ) as live:  # fmt: skip
            while not self._ended.wait(self._EVERY_S):
                live.update(Text(self.line(), no_wrap=True, overflow="ellipsis"), refresh=True)

    def close(self) -> None:
        """Take the line off the screen."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        time.sleep(0)


def terminal_view(stream: TextIO) -> PlainView:
    """Return the view that fits `stream`: live on a terminal, plain in a pipe or file."""
    return LiveView(stream) if stream.isatty() else PlainView(stream)
