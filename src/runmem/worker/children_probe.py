"""What a task's child processes use: sampled, and from the kernel's marks of those that it has waited for."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from runmem.node.sampled_peaks import PeakReader, SampledPeak
from runmem.units import format_bytes
from runmem.worker.probe import Probe

__all__ = ["ENDED_CHILDREN", "ChildrenProbe", "ChildrenWindow", "EndedChildren", "children_fields", "ended_children"]

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

ENDED_CHILDREN = "ended_children_bytes"
"""Field of a call in a fresh process: the most that a child which it has waited for can have had."""


class EndedChildren(NamedTuple):
    """The child processes of this process that have ended and were waited for.

    Attributes
    ----------
    faults : int
        Page faults of all together: more of them mean that another has ended.
    peak_bytes : int
        Highest resident set size of one of them.
    """

    faults: int
    peak_bytes: int


def ended_children() -> EndedChildren:
    """Return what the kernel knows of the children that have ended, since the start of this process."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return EndedChildren(usage.ru_minflt + usage.ru_majflt, usage.ru_maxrss * _MAXRSS_UNIT)


class ChildrenWindow:
    """The children of one task, so far.

    Attributes
    ----------
    sampled : SampledPeak
    ended_bytes : int or None
        Most that a child which this process has waited for can have had; None: none has ended.
    has_risen : bool
        Whether one of those had more than every child before.
    """

    __slots__ = ("sampled", "ended_bytes", "has_risen")

    def __init__(self) -> None:
        self.sampled = SampledPeak()
        self.ended_bytes: int | None = None
        self.has_risen = False


class ChildrenProbe(Probe):
    """Measures the children of each task of this process; without any, in about a microsecond.

    Assumptions
    -----------
    A child belongs to the task that runs in the process then: to each of them if several do, which are labelled
    ``shared``.

    Limitations
    -----------
    Children are sampled: the peak is a lower bound. The kernel's mark of a child that was waited for is exact, but is
    that of one process, and of the highest one in the life of this process: it counts where it has risen.

    Parameters
    ----------
    path : Path
        The file of `runmem.node.sampled_peaks`; without room for it, only the kernel's marks count.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._open: list[ChildrenWindow] = []
        self._ended = ended_children()
        self._reader: PeakReader | None = None
        try:
            self._reader = PeakReader(path)
        except OSError:
            return

    def _cut(self) -> None:
        """Give all open windows what was found since the last cut."""
        peak = self._reader.cut() if self._reader is not None else None
        before, self._ended = self._ended, ended_children()
        if peak is None and before == self._ended:
            return
        for window in self._open:
            if peak is not None:
                window.sampled.add(peak)
            if before != self._ended:
                window.ended_bytes = self._ended.peak_bytes
                window.has_risen = window.has_risen or self._ended.peak_bytes > before.peak_bytes

    def start(self) -> ChildrenWindow:
        """Begin."""
        return self.go_on(ChildrenWindow())

    def stop(self, started: ChildrenWindow) -> dict[str, Any]:
        """End; return the window as ``children``, for `children_fields`."""
        return {"children": self.pause(started)}

    def next(self, started: ChildrenWindow) -> tuple[dict[str, Any], ChildrenWindow]:
        """End for one task and begin for the next."""
        with self._lock:
            self._cut()
            if started in self._open:
                self._open.remove(started)
            window = ChildrenWindow()
            self._open.append(window)
        return {"children": started}, window

    def pause(self, started: ChildrenWindow) -> ChildrenWindow:
        """Leave out the children of the time from now on."""
        with self._lock:
            self._cut()
            if started in self._open:
                self._open.remove(started)
        return started

    def go_on(self, paused: ChildrenWindow) -> ChildrenWindow:
        """Measure again."""
        with self._lock:
            self._cut()
            self._open.append(paused)
        return paused


def children_fields(
    window: ChildrenWindow, own: dict[str, object], lifetime_peak_bytes: int | None, metric: str = "rss"
) -> dict[str, Any]:
    """Return the fields of a record about the task's children; empty if none is known.

    Parameters
    ----------
    window : ChildrenWindow
    own : dict
        Fields that the task has set. Those about children are removed: ``children_peak_bytes`` and
        ``children_command`` of a command that it has run, `ENDED_CHILDREN` if it ran in a fresh process.
    lifetime_peak_bytes : int or None
        Highest resident set size of this process in its life. In the mark of a child that was started from a process,
        the kernel counts that process's memory, so a mark means something only above it.
    metric : str
        What the sampler reads.
    """
    exact, command = _size(own.pop("children_peak_bytes", None)), own.pop("children_command", None)
    of_fresh = _size(own.pop(ENDED_CHILDREN, None))
    ended, has_risen, floor = window.ended_bytes, window.has_risen, lifetime_peak_bytes
    if "target_pid" in own:  # what has ended here is not the task's
        ended, has_risen, floor = of_fresh, True, _size(own.get("lifetime_peak_bytes"))
    if ended is not None and has_risen and floor is not None and ended > max(floor, exact or 0):
        exact, command = ended, None
    sampled = window.sampled
    seen = None if sampled.is_unreadable else sampled.children_bytes
    if exact is not None and (seen is None or (exact >= seen and metric == "rss")):
        command = command or sampled.command.decode("utf-8", "replace") or None
        return {"children_peak_bytes": exact, "children_method": "hwm", "children_command": command}
    if seen is not None:
        command = sampled.command.decode("utf-8", "replace")
        return {"children_peak_bytes": seen, "children_method": "sampled", "children_command": command}
    if sampled.is_unreadable:
        return {"children_method": "missed", "reason": f"the {metric} of a child process could not be read"}
    if ended is not None:
        most = f"none had more than {format_bytes(ended)}"
        return {"children_method": "missed", "reason": f"its child processes ended before they were sampled; {most}"}
    return {}


def _size(value: object) -> int | None:
    return value if isinstance(value, int) else None
