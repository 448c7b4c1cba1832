"""Compute the peaks of nodes and of a whole run from traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runmem.formats.mprof import FORKED, Trace
from runmem.store.layout import safe_name

if TYPE_CHECKING:
    from runmem.formats.mprof import Floats, Integers

__all__ = [
    "MASTER",
    "TracePeak",
    "bracket_peaks",
    "includes_forked",
    "node_peak",
    "run_peak",
    "total_over_time",
    "trace_owner",
    "with_children",
]

MASTER = "master"


@dataclass(frozen=True)
class TracePeak:
    """The highest memory in traces.

    Attributes
    ----------
    peak_bytes : int
    time_s : float or None
        Its time, in seconds since the epoch; None for the peak of a worker, whose time is unknown.
    samples : int
        Number of readings.
    """

    peak_bytes: int
    time_s: float | None
    samples: int


def trace_owner(file: str, nodes: Iterable[str]) -> str:
    """Return the node whose trace is named `file`, ``master`` for that of the master, else the name without suffix."""
    stem = file.removesuffix(".dat")
    if stem.startswith("mprofile_"):
        return MASTER
    return next((node for node in nodes if safe_name(node) == stem), stem)


def node_peak(trace: Trace, worker_peak_bytes: int | None = None) -> TracePeak | None:
    """Return the peak of a node: the highest total of its trace, and no less than its highest worker's.

    Parameters
    ----------
    worker_peak_bytes : int or None
        Highest peak of a worker process of the node from another source; None to use only the totals.

    Returns
    -------
    TracePeak or None
        None for a trace without a total.

    Notes
    -----
    Assumption: the totals include all processes of the node. Limitation: they are sampled, so the peak is a lower
    bound.
    """
    if trace.peak_bytes is None:
        return None
    samples = int(trace.times_s.size)
    if worker_peak_bytes is not None and worker_peak_bytes > trace.peak_bytes:
        return TracePeak(worker_peak_bytes, None, samples)
    return TracePeak(trace.peak_bytes, trace.peak_time_s, samples)


def includes_forked(trace: Trace, time_s: float | None) -> bool:
    """Return True if a reading includes processes that have run no other program than the worker that forked them.

    Memory that they share with it counts in each then.
    """
    readings = [reading for series in trace.children_of_tasks.values() for reading in series]
    return trace.metric == "rss" and any(each.time_s == time_s and each.command == FORKED for each in readings)


def with_children(trace: Trace) -> Trace:
    """Return a trace whose total includes the child processes that `mprof run --multiprocess` writes separately.

    The names of their series are numbers, and the total is only the main process unless ``--include-children`` was
    given, which the file does not record. Assumption: it was not given if in most readings the children exceed the
    total. Limitation: otherwise the case is unclear; then the total is unchanged, and a note is added.
    """
    import numpy as np

    series = [columns for name, columns in trace.children.items() if name.isdigit()]
    if not series or not trace.times_s.size:
        return trace
    order = np.argsort(trace.times_s, kind="stable")
    times_s, totals = trace.times_s[order], trace.totals_bytes[order]
    sums = np.zeros_like(totals)
    for child_times_s, sizes in series:  # each follows its total
        np.add.at(sums, np.searchsorted(times_s, child_times_s, "right").clip(1) - 1, sizes)
    if 2 * np.count_nonzero(sums > totals) <= np.count_nonzero(sums):
        note = "mprof: the total is only the main process unless --include-children was given"
        return replace(trace, notes=[*trace.notes, note])
    note = "rss-sum: the main process and its children; shared pages are counted in each"
    return replace(trace, times_s=times_s, totals_bytes=totals + sums, notes=[*trace.notes, note])


def total_over_time(traces: Iterable[Trace]) -> tuple[Floats, Integers]:
    """Return the times at which the sum over the traces changes (seconds since the epoch), and the sums (bytes).

    A reading is valid until the next one; a trace counts from its first to its last reading. Assumption: the clocks of
    the nodes agree to within a sampling interval. Limitation: between readings a node may have used more.
    """
    import numpy as np

    times: list[Floats] = [np.empty(0)]
    changes: list[Integers] = [np.empty(0, dtype=np.int64)]
    for trace in traces:
        if trace.times_s.size:
            order = np.argsort(trace.times_s, kind="stable")
            sizes = trace.totals_bytes[order]
            times += [trace.times_s[order], np.nextafter(trace.times_s[order][-1:], np.inf)]
            changes += [np.diff(sizes, prepend=0), -sizes[-1:]]
    all_times = np.concatenate(times)
    order = np.argsort(all_times, kind="stable")
    all_times = all_times[order]
    totals = np.cumsum(np.concatenate(changes)[order])
    is_last = np.append(all_times[1:] != all_times[:-1], True)[: all_times.size]
    return all_times[is_last], totals[is_last]


def run_peak(traces: Mapping[str, Trace], peaks: Mapping[str, TracePeak]) -> TracePeak | None:
    """Return the peak of the sum over nodes at one time, which is not the sum of their peaks.

    Parameters
    ----------
    traces : mapping
        Node to trace.
    peaks : mapping
        Node to its own peak. The peak of the run is at least as high as each of them.
    """
    if len(peaks) <= 1:
        return next(iter(peaks.values()), None)
    times_s, totals = total_over_time(traces.values())
    at = int(totals.argmax())
    samples = sum(peak.samples for peak in peaks.values())
    highest = max(peaks.values(), key=lambda peak: peak.peak_bytes)
    if highest.peak_bytes > totals[at]:
        return TracePeak(highest.peak_bytes, highest.time_s, samples)
    return TracePeak(int(totals[at]), float(times_s[at]), samples)


def bracket_peaks(traces: Iterable[Trace]) -> dict[str, list[TracePeak]]:
    """Return the highest total inside each bracket, by name of the bracket.

    Limitation: the total of a trace includes everything that ran at that time, and it is sampled.
    """
    import numpy as np

    found: dict[str, list[TracePeak]] = {}
    for trace in traces:
        order = np.argsort(trace.times_s, kind="stable")
        times_s, totals = trace.times_s[order], trace.totals_bytes[order]
        for bracket in trace.brackets:
            first, past = np.searchsorted(times_s, bracket.start_s), np.searchsorted(times_s, bracket.end_s, "right")
            ends = {bracket.start_s: bracket.start_bytes, bracket.end_s: bracket.end_bytes}
            time_s, size = max(ends.items(), key=lambda item: item[1])
            if past > first and (inside := int(totals[first:past].max())) >= size:
                time_s, size = float(times_s[first + int(totals[first:past].argmax())]), inside
            found.setdefault(bracket.name, []).append(TracePeak(size, time_s, int(past - first) + 2))
    return found
