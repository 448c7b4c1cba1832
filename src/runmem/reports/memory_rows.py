"""What Dask did because the memory of workers was short, as the rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runmem.formats.memory_events import PAUSED, RESUMED, SPILLED, MemoryEvent
from runmem.formats.mprof import Trace
from runmem.metrics.from_traces import trace_owner
from runmem.store.layout import worker_series

__all__ = ["MemoryRow", "memory_rows", "pauses"]

_ONE_PHASE_S = 2.0  # spilling that goes on after a shorter break counts once; a line is written each second


@dataclass(frozen=True)
class MemoryRow:
    """One kind of event of one worker.

    Attributes
    ----------
    node : str
    pid : int
        Process id of the worker.
    kind : str
        ``spilled``, ``paused``, ``terminated`` or ``restarted``.
    times : int
        How often; spilling with breaks of less than two seconds counts once.
    first_s, last_s : float
        Times of the first and the last, in seconds since the epoch.
    size_bytes : int or None
        Largest resident set size of the worker at these times.
    spilled_bytes, results : int or None
        What was spilled in all: size in memory by Dask's estimate, and number of results; None for other kinds.
    paused_s : float or None
        How long the worker was paused in all; None for other kinds.
    """

    node: str
    pid: int
    kind: str
    times: int
    first_s: float
    last_s: float
    size_bytes: int | None = None
    spilled_bytes: int | None = None
    results: int | None = None
    paused_s: float | None = None


def memory_rows(traces: Mapping[str, Trace], nodes: Iterable[str]) -> list[MemoryRow]:
    """Return a row for each kind of event of each worker, in the order of the first ones.

    Parameters
    ----------
    traces : mapping
        File name to trace.
    nodes : iterable of str
        Names of the nodes.
    """
    nodes = list(nodes)
    workers: dict[tuple[str, int], list[MemoryEvent]] = {}
    ends: dict[tuple[str, int], float] = {}
    for file, trace in traces.items():
        for event in sorted(trace.events, key=lambda event: event.time_s):
            worker = trace_owner(file, nodes), event.pid
            workers.setdefault(worker, []).append(event)
            ends[worker] = _end_s(trace, event.pid)
    ordered = sorted(workers, key=lambda worker: workers[worker][0].time_s)
    rows = []
    for worker in ordered:
        events = workers[worker]
        for kind in dict.fromkeys(event.kind for event in events if event.kind != RESUMED):
            found = [event for event in events if event.kind == kind]
            rows.append(_row(*worker, kind, found, events, ends[worker]))
    return rows


def _row(
    node: str, pid: int, kind: str, found: Sequence[MemoryEvent], events: Sequence[MemoryEvent], end_s: float
) -> MemoryRow:
    times = [event.time_s for event in found]
    spills = kind == SPILLED
    breaks = [later - before for before, later in zip(times, times[1:], strict=False)]
    return MemoryRow(
        node,
        pid,
        kind,
        1 + sum(each > _ONE_PHASE_S for each in breaks) if spills else len(found),
        times[0],
        times[-1],
        max((event.size_bytes for event in found if event.size_bytes is not None), default=None),
        sum(event.spilled_bytes for event in found) if spills else None,
        sum(event.results for event in found) if spills else None,
        sum(end - start for start, end in pauses(events, end_s)) if kind == PAUSED else None,
    )


def pauses(events: Iterable[MemoryEvent], end_s: float) -> list[tuple[float, float]]:
    """Return start and end of each pause of a worker process; one that was not resumed lasts until `end_s`.

    Several workers in a process count as one, which is paused while at least one is.
    """
    found, depth, start_s = [], 0, 0.0
    for event in events:
        if event.kind == PAUSED:
            start_s = start_s if depth else event.time_s
            depth += 1
        elif event.kind == RESUMED and depth:
            depth -= 1
            if not depth:
                found.append((start_s, event.time_s))
    if depth:
        found.append((start_s, max(end_s, start_s)))
    return found


def _end_s(trace: Trace, pid: int) -> float:
    """Return the time of the last reading of a worker, or of the trace."""
    times, _ = trace.children.get(worker_series(pid), (trace.times_s, None))
    return float(times.max()) if times.size else 0.0
