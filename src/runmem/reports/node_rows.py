"""The memory of each node as a row of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runmem.events import TaskRecord
from runmem.formats.mprof import Trace
from runmem.metrics.from_traces import MASTER, includes_forked, node_peak, trace_owner
from runmem.reading import JsonObject

__all__ = ["MASTER", "NodeRow", "node_rows", "trace_owner"]

_SUM_NOTE = "rss-sum"  # prefix of a note on a trace whose totals count memory that processes share in each of them


@dataclass(frozen=True)
class NodeRow:
    """The memory of one node, or of the master (the process of the user's program).

    Attributes
    ----------
    node : str
        Host name, or ``master``.
    trace : str or None
        File name of its trace.
    peak_bytes : int or None
        Highest total in the trace, or `worker_peak_bytes` if that is higher; None without a trace.
    peak_time_s : float or None
        Time of that total, in seconds since the epoch; None if the peak is a worker's, whose time is unknown.
    memory_bytes : int or None
        Memory of the host.
    allowed_bytes : int or None
        Memory that the run's processes there may use together: that of the host, or a lower limit of the node's cgroup
        or of Slurm.
    worker_peak_bytes, limit_bytes : int or None
        Highest resident set size of a worker process, in the trace or in the task records, and the limit of one worker,
        in the task records or as reported by the node. With another metric than ``rss``, the highest in the trace.
    limit_source : str or None
        Source of `allowed_bytes`.
    notes : tuple of str
        Remarks of the trace's writer on its values.
    gpus : dict
        Name of each GPU (``gpu0``) to the most memory that was used on it, by all programs together.
    counts_shared_pages : bool
        Whether memory that forked processes share may count in each of them in `peak_bytes`.

    Notes
    -----
    Limitation: the total is sampled, so it misses a spike between two samples; a worker's peak from a high-water mark
    includes it. The memory of a node is at least that of any of its workers, so the higher of both is the better lower
    bound.
    """

    node: str
    trace: str | None = None
    peak_bytes: int | None = None
    peak_time_s: float | None = None
    memory_bytes: int | None = None
    allowed_bytes: int | None = None
    worker_peak_bytes: int | None = None
    limit_bytes: int | None = None
    limit_source: str | None = None
    notes: tuple[str, ...] = ()
    gpus: dict[str, int] = field(default_factory=dict)
    counts_shared_pages: bool = False

    @property
    def allowed_fraction(self) -> float | None:
        """Peak of the total as a fraction of the allowed memory."""
        return _fraction(self.peak_bytes, self.allowed_bytes)

    @property
    def is_lower_bound(self) -> bool:
        """Whether the true peak is at least `peak_bytes`; not if shared pages were counted repeatedly."""
        return not self.counts_shared_pages and not any(note.startswith(_SUM_NOTE) for note in self.notes)

    @property
    def limit_fraction(self) -> float | None:
        """Peak of a worker as a fraction of its limit."""
        return _fraction(self.worker_peak_bytes, self.limit_bytes)


def node_rows(
    records: Iterable[TaskRecord],
    traces: Mapping[str, Trace],
    nodes: Mapping[str, JsonObject],
    master_host: str | None = None,
    master_is_limited: bool = False,
) -> list[NodeRow]:
    """Return a row for the master and one for each node, in the order of their names.

    Parameters
    ----------
    traces : mapping
        File name to trace.
    nodes : mapping
        Host name to ``memory_bytes``, ``limit_bytes``, ``limit_source``, as in a run's provenance.
    master_host : str or None
        Host of the master.
    master_is_limited : bool
        Whether the limit of that host, reported by its workers, applies to the master, which started them.
    """
    highest: dict[str, int] = {}
    limits: dict[str, int] = {}
    for record in records:
        highest[record.node] = max(highest.get(record.node, 0), record.peak_bytes or 0)
        limits[record.node] = max(limits.get(record.node, 0), record.limit_bytes or 0)
    names = {*highest, *nodes}
    by_node = {trace_owner(file, names): (file, trace) for file, trace in traces.items()}
    rows = []
    for node in sorted(names | set(by_node), key=lambda name: (name != MASTER, name)):
        file, trace = by_node.get(node, (None, None))
        known = nodes.get(node, {})
        host = nodes.get(master_host or "", {}) if node == MASTER else known
        host_limit = host.get("limit_bytes") if node != MASTER or master_is_limited else None
        series = [int(sizes.max()) for _, sizes in trace.children.values() if sizes.size] if trace else []
        # The records have resident set sizes, which other metrics do not include.
        of_records = highest.get(node, 0) if trace is None or trace.metric == "rss" else 0
        worker_peak = max([*series, of_records])
        peak = node_peak(trace, worker_peak) if trace else None
        rows.append(
            NodeRow(
                node=node,
                trace=file,
                peak_bytes=peak.peak_bytes if peak else None,
                peak_time_s=peak.time_s if peak else None,
                memory_bytes=_size(host.get("memory_bytes")),
                allowed_bytes=_least(_size(host.get("memory_bytes")), _size(host_limit)),
                worker_peak_bytes=worker_peak or None,
                limit_bytes=_size(limits.get(node)) or _size(known.get("limit_bytes")),
                limit_source=host.get("limit_source") or None,
                notes=tuple(trace.notes) if trace else (),
                gpus=_gpus(trace) if trace else {},
                counts_shared_pages=includes_forked(trace, peak.time_s) if trace and peak else False,
            )
        )
    return rows


def _gpus(trace: Trace) -> dict[str, int]:
    """Return the highest reading of each device: not of the workers, which are series of the trace."""
    found = {name: max(size for _, size in readings) for name, readings in trace.gpus.items()}
    return {name: size for name, size in found.items() if name not in trace.children}


def _size(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and value > 0 else None


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _fraction(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None
