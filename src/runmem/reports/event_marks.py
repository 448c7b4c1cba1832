"""Marks of a figure for what Dask did because the memory of workers was short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runmem.formats.memory_events import PAUSED, RESTARTED, SPILLED, TERMINATED, MemoryEvent
from runmem.formats.mprof import Trace
from runmem.reports.memory_rows import pauses
from runmem.store.layout import worker_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["mark_events"]

_PAUSED = "#f1c40f"
_MARKS: dict[str, dict[str, Any]] = {
    SPILLED: {"marker": "D", "markersize": 5, "color": "#6c3483", "label": "spilled to disk"},
    TERMINATED: {
        "marker": "s", "markersize": 13, "color": "none", "markeredgecolor": "#c0392b", "label": "ended by its nanny",
    },  # around the mark of a killed task
    RESTARTED: {"marker": "o", "markersize": 6, "color": "#1e8449", "label": "restarted"},
}  # fmt: skip


def mark_events(axis: Axes, trace: Trace, zero_s: float, scale: float) -> None:
    """Mark the events of a trace on the curves of the workers.

    Parameters
    ----------
    zero_s : float
        Zero of the time axis, in seconds since the epoch.
    scale : float
        Bytes for each unit of the memory axis.
    """
    for kind, style in _MARKS.items():
        events = [event for event in trace.events if event.kind == kind]
        if events:
            times = [event.time_s - zero_s for event in events]
            sizes = [_height(trace, event) / scale for event in events]
            axis.plot(times, sizes, **{"linestyle": "none", "markeredgecolor": "white", "zorder": 4.5, **style})
    _mark_pauses(axis, trace, zero_s, scale)


def _mark_pauses(axis: Axes, trace: Trace, zero_s: float, scale: float) -> None:
    import numpy as np

    label = "paused by Dask"
    for pid in dict.fromkeys(event.pid for event in trace.events if event.kind == PAUSED):
        times, sizes = trace.children.get(worker_series(pid), (trace.times_s, trace.totals_bytes))
        mine = sorted((event for event in trace.events if event.pid == pid), key=lambda event: event.time_s)
        for start_s, end_s in pauses(mine, float(times[-1])):
            inside = times[(times > start_s) & (times < end_s)]
            drawn = [start_s, *(float(time_s) for time_s in inside), end_s]
            axis.plot(
                [time_s - zero_s for time_s in drawn], np.interp(drawn, times, sizes) / scale,
                color=_PAUSED, alpha=0.6, linewidth=8, solid_capstyle="butt", zorder=1.5, label=label,
            )  # fmt: skip
            label = "_"  # the legend has it once


def _height(trace: Trace, event: MemoryEvent) -> float:
    """Return the size of a worker at an event, as its curve has it there, so that the mark is on the curve."""
    import numpy as np

    times, sizes = trace.children.get(worker_series(event.pid), (trace.times_s[:0], trace.totals_bytes[:0]))
    return float(np.interp(event.time_s, times, sizes)) if times.size else float(event.size_bytes or 0)
