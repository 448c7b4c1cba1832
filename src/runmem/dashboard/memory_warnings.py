"""Reports on the terminal when the memory of workers becomes short."""

from __future__ import annotations

from typing import TextIO

from runmem.collection.observer import Observer
from runmem.events import MemoryManaged
from runmem.standard_error import say
from runmem.units import format_bytes

__all__ = ["MemoryWarnings"]

_TEXTS = {
    "spilled": "moves results to disk, because its memory is short: tasks wait for that",
    "paused": "is paused by Dask, because its memory is short: it begins no task until it has more",
    "terminated": "is ended by its nanny, because it has reached its memory limit",
}


class MemoryWarnings(Observer):
    """Prints a line when Dask spills, pauses or ends for the first time; the summary has the rest.

    A worker that is ended while it runs a task is left out: `DeathReports` says more about that.

    Parameters
    ----------
    stream : TextIO, optional
        Default: standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._said: set[str] = set()

    def memory_managed(self, event: MemoryManaged) -> None:
        """Print the first event of each kind."""
        if event.kind not in _TEXTS or event.kind in self._said:
            return
        if event.kind == "terminated" and event.in_task:
            return
        self._said.add(event.kind)
        size = "" if event.size_bytes is None else f", at {format_bytes(event.size_bytes)}"
        say(f"runmem: worker {event.pid} on {event.node}{size}, {_TEXTS[event.kind]}.", self._stream)
