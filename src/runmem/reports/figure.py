"""Draw memory over time: nodes, workers, tasks and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.formats.mprof import Trace, read_trace
from runmem.metrics.from_traces import with_children
from runmem.reading import MAX_TIME_S
from runmem.reports.event_marks import mark_events
from runmem.reports.lanes import Bar, bars_of_brackets, bars_of_records, lanes
from runmem.reports.node_rows import MASTER, NodeRow, node_rows, trace_owner
from runmem.reports.task_rows import how_measured
from runmem.store.output import write_file
from runmem.store.run import RunData
from runmem.units import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "panels_of_run", "panel_of_trace", "draw", "drawn_run"]

_MOST_PANELS = 6
_MOST_EDGED = 2000
_MOST_BARS = 20_000
_MOST_LABELS = 8
_MOST_PEAKS = 300
_NEAR = 1.6  # a limit up to so many times the highest value is drawn, a higher one is in the title
_SPLIT = 4  # a total above so many times the highest worker gets a separate axis
_GIB_FROM = 8 * GIB
_CLOCK_TOLERANCE_S = 3600.0
_MOST_LEADING = 0.2  # of the width, for the time before the first task if it has no peak
_BESIDE: Any = {
    "loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0, "fontsize": 8, "frameon": False,
}  # fmt: skip
_TOTAL, _LIMIT, _KILLED = "#7b8794", "#c0392b", "#c0392b"
_WORKERS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#7a5195", "#777777")
_TASKS = ("#b9add9", "#f3d28f", "#b7dcb4", "#f2b8c6", "#a9d3e0", "#d8c3a5", "#c5d86d", "#d9d9d9")  # unlike any worker's


@dataclass(frozen=True)
class Panel:
    """The data of one node's panel.

    Attributes
    ----------
    title : str
    trace : Trace
    bars : list of Bar
        Tasks of the node.
    killed : list of TaskRecord
    limit_bytes : int or None
        Memory limit of one worker.
    peak : str
        The peak, as in the report, and what it is.
    peak_bytes : int
        Its size; 0 if it is not known.
    """

    title: str
    trace: Trace
    bars: list[Bar] = field(default_factory=list)
    killed: list[TaskRecord] = field(default_factory=list)
    limit_bytes: int | None = None
    peak: str = ""
    peak_bytes: int = 0


def panels_of_run(run: RunData) -> list[Panel]:
    """Return a panel for each trace of the run, in descending order of the nodes' peaks, with the master last.

    Raises SettingError if the run has no trace with a reading.
    """
    hosts = {*run.nodes, *(record.node for record in run.records)}
    window = _window(run)
    panels = []
    for path in run.traces:
        trace = _inside(read_trace(path), window)
        if not trace.times_s.size:
            continue
        owner = trace_owner(path.name, hosts)
        records = [record for record in run.records if record.node == owner]
        killed = [record for record in records if record.status == "killed" and record.end_s is not None]
        (row,) = node_rows(records, {path.name: trace}, {owner: run.nodes.get(owner, {})})
        bars = bars_of_records(records) or bars_of_brackets(trace.brackets)
        bars = [bar for bar in bars if window[0] <= bar.start_s and bar.end_s <= window[1]]
        killed = [record for record in killed if window[0] <= (record.end_s or 0) <= window[1]]
        peak = _described_peak(row, trace, records)
        panels.append(Panel(owner, trace, bars, killed, row.limit_bytes, peak, row.peak_bytes or 0))
    if not panels:
        raise SettingError(
            f"{run.directory.root} has no trace to draw: was it started with --python_memory_profile, and long enough?"
        )
    return sorted(panels, key=lambda panel: (panel.title == MASTER, -panel.peak_bytes))


def _described_peak(row: NodeRow, trace: Trace, records: Sequence[TaskRecord] = ()) -> str:
    """Return the peak of a node or a trace with what it is, and the exact peak of its highest task."""
    exact = [record for record in records if how_measured(record) == "exact"]
    highest = max(exact, key=lambda record: record.peak_bytes or 0, default=None)
    mark = ">=" if row.is_lower_bound else "~"
    text = f"peak {mark}{format_bytes(row.peak_bytes)}"
    if highest is not None and highest.peak_bytes == row.peak_bytes:
        return f"{text}, the exact peak of {highest.name}"
    kind = "" if trace.metric == "rss" else f" of {trace.metric}"
    text += f", the highest reading{kind}" if row.peak_time_s is not None else ", of a worker"
    if highest is not None:
        text += f"; the highest task {format_bytes(highest.peak_bytes)} (exact, {highest.name})"
    return text


def _window(run: RunData) -> tuple[float, float]:
    """Return the times between which a run took place, plus an hour, since clocks of nodes may differ.

    A damaged line may have a time years away, which would compress the rest of the figure.
    """
    started_s, ended_s = run.provenance.get("started_s"), run.provenance.get("ended_s")
    if started_s is None or ended_s is None or ended_s < started_s:
        return 0.0, MAX_TIME_S
    return started_s - _CLOCK_TOLERANCE_S, ended_s + _CLOCK_TOLERANCE_S


def _inside(trace: Trace, window: tuple[float, float]) -> Trace:
    """Return the part of a trace inside a time window."""
    first, last = window
    kept = (trace.times_s >= first) & (trace.times_s <= last)
    children = {}
    for name, (times, sizes) in trace.children.items():
        is_inside = (times >= first) & (times <= last)
        if is_inside.any():
            children[name] = times[is_inside], sizes[is_inside]
    events = [event for event in trace.events if first <= event.time_s <= last]
    totals = trace.totals_bytes[kept]
    return replace(trace, times_s=trace.times_s[kept], totals_bytes=totals, children=children, events=events)


def panel_of_trace(path: Path) -> Panel:
    """Return the panel of a single `.dat` file; its total includes the children of `mprof run --multiprocess`.

    Raises SettingError if the file has no reading.
    """
    trace = with_children(read_trace(path))
    if not trace.times_s.size:
        raise SettingError(f"{path} has no MEM line to draw.")
    (row,) = node_rows([], {path.name: trace}, {})
    peak = _described_peak(row, trace)
    return Panel(path.name, trace, bars_of_brackets(trace.brackets), peak=peak, peak_bytes=row.peak_bytes or 0)


def draw(panels: Sequence[Panel], path: Path, title: str = "", start_s: float | None = None) -> Path:
    """Draw the panels one above the other into `path` (PNG, SVG or PDF by its suffix) and return it.

    Raises SettingError if the file cannot be written, or its suffix is not supported.

    Parameters
    ----------
    start_s : float or None
        Zero of the time axis, in seconds since the epoch; default the first reading.

    Notes
    -----
    At most six nodes with the highest peaks are drawn, and at most 20,000 tasks of a node, the longest; the figure says
    what is left out.
    """
    _save(_figure_of(panels, title, start_s), path)
    return path


def drawn_run(run: RunData) -> bytes:
    """Return the figure of a run as PNG.

    Raises SettingError if the run has no trace with a reading.
    """
    title = f"{run.directory.root.resolve().name}: memory over time"
    return drawn(_figure_of(panels_of_run(run), title, run.provenance.get("started_s")), Path("run.png"))


def _figure_of(panels: Sequence[Panel], title: str, start_s: float | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(panels[:_MOST_PANELS])
    zero_s = min(float(panel.trace.times_s.min()) for panel in shown) if start_s is None else start_s
    heights = [height for panel in shown for height in _heights(panel)]
    figure = Figure(figsize=(10, sum(heights) + 0.3 * len(heights) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = iter(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    colours = _task_colours(shown)
    for panel in shown:
        curves = [next(axes) for _ in range(2 if _is_split(panel) else 1)]
        axis = curves[-1]
        _draw_memory(curves, panel, zero_s)
        if panel.bars:
            axis = next(axes)
            _draw_tasks(axis, panel, zero_s, colours)
    axis.set_xlabel("time since the start (s)")
    axis.set_xlim(*_time_range(shown, zero_s))
    left_out = f" (the fullest {len(shown)} of {len(panels)} traces)" if len(shown) < len(panels) else ""
    figure.suptitle(title + left_out, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _heights(panel: Panel) -> list[float]:
    """Return the heights, in inches, of a panel's axes: the curves, and the lanes if there are any."""
    lane_count = len(lanes(_longest(panel.bars)))
    curves = [1.5] if panel.title == MASTER else [1.5, 2.2] if _is_split(panel) else [2.6]
    return [*curves, min(0.22 * lane_count + 0.1, 2.2)] if lane_count else curves


def _longest(bars: Sequence[Bar]) -> list[Bar]:
    """Return the longest tasks, as many as a figure can show."""
    return sorted(bars, key=lambda bar: bar.start_s - bar.end_s)[:_MOST_BARS]


def _save(figure: Figure, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, drawn(figure, path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"the figure cannot be written to {path}: {reason}") from error


def drawn(figure: Figure, path: Path) -> bytes:
    """Return a figure in the format of the suffix of `path`, by default PNG.

    Raises ValueError if the format is unknown.
    """
    content = BytesIO()
    figure.savefig(content, dpi=130, format=path.suffix[1:] or "png")
    return content.getvalue()


def _time_range(panels: Sequence[Panel], zero_s: float) -> tuple[float, float]:
    ends = [float(panel.trace.times_s.max()) for panel in panels]
    ends += [bar.end_s for panel in panels for bar in panel.bars]
    starts = [min(float(panel.trace.times_s.min()) for panel in panels), zero_s]
    first, last = min(starts) - zero_s, max(ends) - zero_s
    begun = min((bar.start_s for panel in panels for bar in panel.bars), default=zero_s) - zero_s
    if begun - first > _MOST_LEADING * (last - first) and all(
        _is_low_before(panel, begun + zero_s) for panel in panels
    ):
        first = begun - 0.05 * (last - begun)
    margin = 0.01 * (last - first) or 0.5
    return first - margin, last + margin


def _is_low_before(panel: Panel, time_s: float) -> bool:
    """Return True if no peak of a panel was before a time, so that the figure may start there."""
    series = [(panel.trace.times_s, panel.trace.totals_bytes), *panel.trace.children.values()]
    return all(
        not before.any() or bool((~before).any() and sizes[before].max() <= sizes[~before].max())
        for times, sizes in series
        for before in [times < time_s]
    )


def _task_colours(panels: Sequence[Panel]) -> dict[str, str]:
    """Assign colours to the names with the longest total time; the others share the last colour."""
    total_s: dict[str, float] = {}
    for panel in panels:
        for bar in panel.bars:
            total_s[bar.name] = total_s.get(bar.name, 0.0) + bar.end_s - bar.start_s
    names = sorted(total_s, key=lambda name: -total_s[name])
    return {name: _TASKS[min(number, len(_TASKS) - 1)] for number, name in enumerate(names)}


def _draw_total(axis: Axes, panel: Panel, zero_s: float, scale: float) -> int:
    """Draw the total of the trace and return its highest value in bytes."""
    trace = panel.trace
    times = trace.times_s - zero_s
    label = "process" if panel.title == MASTER or not trace.children else "all processes of the workers"
    axis.fill_between(times, trace.totals_bytes / scale, color=_TOTAL, alpha=0.10, linewidth=0)
    axis.plot(times, trace.totals_bytes / scale, color=_TOTAL, linewidth=1.4, label=label)
    return trace.peak_bytes or 0


def _draw_workers(axis: Axes, panel: Panel, zero_s: float, scale: float) -> int:
    """Draw the workers, the tasks' peaks, the limit and killed tasks; return the highest value in bytes."""
    by_height = sorted(panel.trace.children.items(), key=lambda item: -int(item[1][1].max(initial=0)))
    for number, (series, (times, sizes)) in reversed([*enumerate(by_height)]):  # the highest on top
        named = number < _MOST_LABELS
        colour = _WORKERS[number] if named else "#bbbbbb"
        label = series.replace("worker-", "worker ") if named else None
        axis.plot(times - zero_s, sizes / scale, color=colour, linewidth=1.1 if named else 0.6, label=label)
    if len(by_height) > _MOST_LABELS:
        axis.plot([], [], color="#bbbbbb", label=f"{len(by_height) - _MOST_LABELS} more workers")
    _mark_peaks(axis, panel, zero_s, scale)
    highest = _top_worker(panel)
    if panel.limit_bytes is not None and panel.limit_bytes <= _NEAR * max(highest, panel.trace.peak_bytes or 0):
        label = f"limit of a worker: {format_bytes(panel.limit_bytes)}"
        axis.axhline(panel.limit_bytes / scale, color=_LIMIT, linestyle=(0, (5, 3)), linewidth=1.1, label=label)
        highest = max(highest, panel.limit_bytes)
    _mark_killed(axis, panel, zero_s, scale)
    mark_events(axis, panel.trace, zero_s, scale)
    return highest


def _title(panel: Panel) -> str:
    text = f"{panel.title}: {panel.peak}"
    highest = max(panel.trace.peak_bytes or 0, _top_worker(panel))
    if panel.limit_bytes is not None and panel.limit_bytes > _NEAR * highest:
        text += f", limit of a worker {format_bytes(panel.limit_bytes)}"  # a line far above would flatten the curves
    return text


def _top_worker(panel: Panel) -> int:
    """Return the highest value known of any worker, in bytes."""
    sampled = [int(sizes.max(initial=0)) for _, sizes in panel.trace.children.values()]
    known = [*(bar.peak_bytes or 0 for bar in panel.bars), *(record.last_bytes or 0 for record in panel.killed)]
    return max([*sampled, *known], default=0)


def _is_split(panel: Panel) -> bool:
    """Return True if the total is so far above the workers that they need a separate axis."""
    return bool(panel.trace.children) and (panel.trace.peak_bytes or 0) > _SPLIT * max(_top_worker(panel), 1)


def _draw_memory(axes: Sequence[Axes], panel: Panel, zero_s: float) -> None:
    """Draw the total and the workers on one axis or on two."""
    everything = max(panel.trace.peak_bytes or 0, _top_worker(panel))
    parts = [[_draw_total], [_draw_workers]] if len(axes) > 1 else [[_draw_total, _draw_workers]]
    for axis, drawings in zip(axes, parts, strict=True):
        whole = _top_worker(panel) if drawings == [_draw_workers] else everything
        scale, unit = (GIB, "GiB") if whole >= _GIB_FROM else (MIB, "MiB")
        highest = max(drawing(axis, panel, zero_s, scale) for drawing in drawings)
        axis.set_ylim(0, 1.08 * highest / scale or 1)
        axis.set_ylabel(
            f"memory ({unit})" if len(parts) == 1 else f"{'workers' if axis is axes[-1] else 'node'} ({unit})"
        )
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        _order_legend(axis)
    axes[0].set_title(_title(panel), loc="left", fontsize=10)


def _order_legend(axis: Axes) -> None:
    """Place the legend beside the axis: total, workers by height, then the rest."""
    handles, labels = axis.get_legend_handles_labels()
    workers = [number for number, label in enumerate(labels) if label.startswith("worker ")]
    order = [*(n for n in range(min(workers, default=0))), *reversed(workers)]
    order += [n for n in range(len(labels)) if n not in order]
    axis.legend([handles[n] for n in order], [labels[n] for n in order], **_BESIDE)


def _mark_peaks(axis: Axes, panel: Panel, zero_s: float, scale: float) -> None:
    """Mark the exact peaks of the highest tasks, which the samples may have missed."""
    known = sorted((bar for bar in panel.bars if bar.peak_bytes is not None), key=lambda bar: -(bar.peak_bytes or 0))
    if not known:
        return
    from matplotlib.markers import CARETDOWN

    marked = known[:_MOST_PEAKS]
    axis.plot(
        [_likely_time_s(bar, panel) - zero_s for bar in marked],
        [(bar.peak_bytes or 0) / scale for bar in marked],
        linestyle="none", marker=CARETDOWN, markersize=4, color="#111111", zorder=4,  # its tip is at the peak
        label="exact peak of a task" if len(known) <= _MOST_PEAKS else f"exact peak of a task (highest {_MOST_PEAKS})",
    )  # fmt: skip


def _likely_time_s(bar: Bar, panel: Panel) -> float:
    """Return when a task probably had its peak: at the highest reading of its worker, else in the middle."""
    times, sizes = panel.trace.children.get(bar.lane.replace(" ", "-", 1), (None, None))
    if times is not None and sizes is not None:
        first, last = times.searchsorted([bar.start_s, bar.end_s])
        if first < last:
            return float(times[first + int(sizes[first:last].argmax())])
    return (bar.start_s + bar.end_s) / 2


def _mark_killed(axis: Axes, panel: Panel, zero_s: float, scale: float) -> None:
    marked = [record for record in panel.killed if record.end_s is not None and record.last_bytes is not None]
    for number, record in enumerate(marked):
        at = ((record.end_s or 0.0) - zero_s, (record.last_bytes or 0) / scale)
        label = None if number else "killed"
        axis.plot(*at, "X", color=_KILLED, markersize=9, markeredgecolor="white", zorder=5, label=label)
        if number < _MOST_LABELS:
            is_right = (record.end_s or 0.0) > _middle_s(panel)  # then to the left, away from the legend
            offset, side = (-7, "right") if is_right else (7, "left")
            place: Any = {"xytext": (offset, -3), "textcoords": "offset points", "ha": side}
            axis.annotate(record.name, at, color=_KILLED, fontsize=8, **place)


def _middle_s(panel: Panel) -> float:
    first = min([float(panel.trace.times_s.min()), *(bar.start_s for bar in panel.bars)])
    return (first + float(panel.trace.times_s.max())) / 2


def _draw_tasks(axis: Axes, panel: Panel, zero_s: float, colours: dict[str, str]) -> None:
    """Draw the lanes of the workers, with a bar for each task."""
    kept = _longest(panel.bars)
    rows = lanes(kept)
    for height, (_, bars) in enumerate(rows):
        spans = [(bar.start_s - zero_s, max(bar.end_s - bar.start_s, 1e-4)) for bar in bars]
        edges = [_KILLED if bar.killed else "white" if len(kept) <= _MOST_EDGED else "none" for bar in bars]
        faces = [colours[bar.name] for bar in bars]
        axis.broken_barh(spans, (height - 0.4, 0.8), facecolors=faces, edgecolors=edges, linewidth=0.4)
    if len(rows) <= 2 * _MOST_LABELS:
        axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
    else:
        axis.set_yticks([])
        axis.set_ylabel(f"{len(rows)} lanes", fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(left=False)
    _name_tasks(axis, kept, colours, len(panel.bars) - len(kept))


def _name_tasks(axis: Axes, bars: Sequence[Bar], colours: dict[str, str], left_out: int) -> None:
    from matplotlib.patches import Patch

    present = {bar.name for bar in bars}
    names = [name for name in colours if name in present]
    own = [name for name in names if colours[name] != _TASKS[-1]]
    handles = [Patch(color=colours[name], label=name) for name in own]
    if len(names) > len(own):
        handles.append(Patch(color=_TASKS[-1], label=f"{len(names) - len(own)} more tasks"))
    if left_out:
        handles.append(Patch(color="none", label=f"({left_out} shorter ones not drawn)"))
    axis.legend(handles=handles, **_BESIDE)
