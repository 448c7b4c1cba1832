"""The sections of a run's summary as lines of text, each with its style on a terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence

from runmem.collection.killed_tasks import facts_of
from runmem.events import TaskRecord
from runmem.formats.memory_events import PAUSED, SPILLED
from runmem.reports.memory_rows import MemoryRow
from runmem.reports.node_rows import NodeRow
from runmem.reports.task_rows import TaskRow
from runmem.table import TableColumn, fits, numbered_lines, printable
from runmem.units import format_bytes

__all__ = [
    "Line",
    "calls_counted",
    "headline",
    "without_tasks",
    "task_table",
    "how_line",
    "unclear_lines",
    "node_table",
    "children_lines",
    "memory_lines",
    "killed_lines",
    "memory_error_lines",
    "cancelled_lines",
    "section",
    "seconds",
    "lines_skipped",
]

Line = tuple[str, str]
"""A text and its style for rich (empty for none)."""

_MOST_FRAMES = 4
_BOUND = {"exact": "", "sampled": ">=", "shared": "<=", "recorded": "<=", "unclear": "~"}
_MEANING = {
    "sampled": "  >= sampled: the highest of the readings, a lower bound",
    "shared": "  <= shared: another task overlapped in the same process, an upper bound",
    "recorded": "  <= recorded: memray recorded the allocations, and its own memory is included, an upper bound",
    "unclear": "  ~ sampled while another task overlapped in the same process: neither bound",
}
_SHARED_PAGES = "memory that forked processes share counts in each of them (--memory_metric=pss divides it)"
_MAY_BE_HIGHER = "  >= or ~ also where an execution that was sampled, or whose peak is missing, may have had more"
_UPPER_BOUNDS = (
    "  For {bounds:,} of {all:,} the worker ran more than the task. For exact peaks start workers with one thread each:"
)
_ONE_THREAD = "  LocalCluster(threads_per_worker=1), `dask worker --nthreads 1`; and not with processes=False"
_NEARLY_FULL, _FILLING = 0.9, 0.75


def seconds(time_s: float | None) -> str:
    """Format a duration: ``0.25 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if time_s is None:
        return "-"
    if time_s < 1:
        return f"{time_s:.2f} s"
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, rest = divmod(round(time_s), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def lines_skipped(count: int) -> str:
    """Format the number of ignored lines of a file."""
    return f"{count} line{'' if count == 1 else 's'} skipped (torn, foreign or binary)"


def headline(
    title: str,
    elapsed_s: float | None,
    exit_code: int | None,
    tasks: Sequence[TaskRow],
    called: int | None = None,
    nested: int = 0,
) -> list[Line]:
    """Make a line of title, calls, duration and exit.

    Parameters
    ----------
    called : int or None
        Calls of the program; default: the calls in the records.
    nested : int
        Calls that tasks made.
    """
    calls = sum(row.calls for row in tasks) if called is None else called + nested
    ran = [calls_counted(calls)] if calls or called is not None else []
    if nested:
        ran.append(f"({nested:,} made by tasks)")
    if elapsed_s is not None:
        ran.append(f"in {seconds(elapsed_s)}")
    text = f"{printable(title)}: {', '.join([' '.join(ran), _ending(exit_code)] if ran else [_ending(exit_code)])}"
    return [(text, "bold" if exit_code == 0 else "bold red")]


def calls_counted(count: int) -> str:
    """Format a number of task calls."""
    return f"{count:,} task call{'' if count == 1 else 's'}"


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "no end is recorded (it is running, or its master was killed)"
    try:
        return f"ended by {signal.Signals(exit_code - 128).name} (exit code {exit_code})"
    except ValueError:
        return f"exit code {exit_code}"


def without_tasks(called: int | None, is_measured: bool | None) -> list[Line]:
    """Explain why no task is listed.

    Parameters
    ----------
    called : int or None
        Task calls of the program; None without a recorded end.
    is_measured : bool or None
        Whether the run was to measure memory; None if unknown.
    """
    if called == 0 or (called is None and is_measured is not False):
        return [("No task ran." if called == 0 else "No task is recorded.", "")]
    calls = "Task calls are not counted" if called is None else calls_counted(called)
    if is_measured is False:
        return [(f"{calls}; memory was not measured (--python_memory_profile does).", "")]
    return [(f"{calls}; their records are lost (see Lost).", "yellow")]


def task_table(rows: Sequence[TaskRow], width: int | None, most_rows: int | None = None) -> list[Line]:
    """Return a table with a row for each task; the columns ``Killed`` and ``Node`` are included only if useful."""
    shown = rows[:most_rows]
    has_percentiles = any(row.p95_peak_bytes is not None for row in shown)
    several_nodes = len({row.max_node for row in rows if row.max_node}) > 1
    columns: list[tuple[TableColumn, Callable[[TaskRow], str]]] = [
        (TableColumn("Task", flexible=True), lambda row: row.name),
        (TableColumn("Calls", right=True), lambda row: str(row.calls)),
        (TableColumn("Failed", right=True), lambda row: str(row.failed)),
        (TableColumn("Max peak", right=True), _max_peak),
        (TableColumn("Increment", right=True), lambda row: _increment(row, row.median_increment_bytes)),
        (TableColumn("Max incr.", right=True), lambda row: _increment(row, row.max_increment_bytes)),
    ]
    if has_percentiles:
        columns.insert(4, (TableColumn("p95 peak", right=True), _p95_peak))
    if any(row.killed for row in rows):
        columns.insert(3, (TableColumn("Killed", right=True), lambda row: str(row.killed)))
    if any(row.children_peak_bytes or row.children_missed for row in rows):
        columns.append((TableColumn("Children", right=True), _children_peak))
        columns.append((TableColumn("Child command", flexible=True), lambda row: row.children_command or "-"))
    if any(row.gpu_peak_bytes is not None for row in rows):
        columns.append((TableColumn("GPU", right=True), _gpu_peak))
    if several_nodes:
        columns.append((TableColumn("Node", flexible=True), lambda row: row.max_node or "-"))
    cells = [[text(row) for _, text in columns] for row in shown]
    titles = [column for column, _ in columns]
    if several_nodes and not fits(titles, cells, width):  # --tasks shows the node of the highest peak too
        titles, cells = titles[:-1], [row[:-1] for row in cells]
    found = [
        (line, "bold" if at is None else "red" if shown[at].failed or shown[at].killed else "")
        for at, line in numbered_lines(titles, cells, width)
    ]
    if len(shown) < len(rows):
        found.append((f"and {len(rows) - len(shown)} more tasks with lower peaks", "dim"))
    return found


def _max_peak(row: TaskRow) -> str:
    return _BOUND.get(row.max_how or "", "") + format_bytes(row.max_peak_bytes)


def _p95_peak(row: TaskRow) -> str:
    return _BOUND.get(row.p95_how or "", "") + format_bytes(row.p95_peak_bytes)


def _children_peak(row: TaskRow) -> str:
    if row.children_peak_bytes is None:
        return "missed" if row.children_missed else "-"
    return _BOUND[row.children_how or "unclear"] + format_bytes(row.children_peak_bytes)


def _gpu_peak(row: TaskRow) -> str:
    return "-" if row.gpu_peak_bytes is None else _BOUND["sampled"] + format_bytes(row.gpu_peak_bytes)


def children_lines(rows: Sequence[TaskRow], metric: str = "rss") -> list[Line]:
    """Say what the column of the children means, how many were missed, and what was sampled."""
    seen = {row.children_how for row in rows if row.children_peak_bytes is not None}
    missed = sum(row.children_missed for row in rows)
    found = []
    if seen:
        found.append("Children: the child processes of a task, not in its peak. >= is their highest sum in a sample,")
        found.append("  a value without >= the kernel's high-water mark of the largest one.")
        if seen & {"shared", "unclear"}:
            found.append("  <= or ~: they may belong to another task, which ran in the same process,")
            found.append(f"  or {_SHARED_PAGES}")
    if missed:
        executions = f"{missed:,} execution{'' if missed == 1 else 's'}"
        found.append(f"  missed: in {executions} they ended before they were sampled, or could not be read")
    if metric != "rss" and rows:
        found.append(f"Samples are {metric} (--memory_metric); peaks and increments of tasks are resident set sizes.")
    return [(text, "dim") for text in found]


def _increment(row: TaskRow, value: int | None) -> str:
    return _BOUND.get(row.increments_how or "", "") + format_bytes(value)


def unclear_lines(rows: Sequence[TaskRow], reasons: Iterable[str] = ()) -> list[Line]:
    """Report the number of unclear increments, which are left out, and the meaning of ``~``."""
    unclear = sum(row.unclear_increments for row in rows)
    if not unclear:
        return []
    executions = sum(row.executions for row in rows)
    left_out = f"Increments: the median and the largest. {unclear:,} of {executions:,} are unclear and left out"
    if any(not row.increments_are_clear for row in rows):
        left_out += "; ~ if a task has no others"
    return [(f"{left_out}.", ""), *((f"  unclear: {printable(reason)}", "dim") for reason in reasons)]


def how_line(rows: Sequence[TaskRow], reasons: Iterable[str] = ()) -> list[Line]:
    """Report how the peaks were measured, and the meaning of the marks before them."""
    if not rows:
        return []
    kinds = ("exact", "sampled", "shared", "recorded", "unclear", "missing")
    counts = {kind: sum(getattr(row, kind) for row in rows) for kind in kinds}
    executions, calls = sum(row.executions for row in rows), sum(row.calls for row in rows)
    of_all = f" of {executions:,} executions" if executions > calls else ""
    why = "a worker died that ran the call or stored its result"
    why += ", or Dask had released the result" if rows[0].is_plain_dask else ""
    tried = sum(row.tried_again for row in rows)
    again = [(f"  {tried:,} failed, and their calls were tried again", "dim")] if tried else []
    if (others := executions - calls - tried) > 0:
        again.append((f"  {others:,} ran again: {why}", "dim"))
    if counts["exact"] == executions:
        return [(f"Peaks{of_all} are exact: the kernel's high-water mark of each task.", "dim"), *again]
    text = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    found = [(f"Peaks{of_all}: {text}.", ""), *again]
    found += [(_MEANING[kind], "dim") for kind in _MEANING if counts[kind]]
    if any(row.others_may_be_higher for row in rows):
        found.append((_MAY_BE_HIGHER, "dim"))
    if (bounds := counts["shared"] + counts["unclear"]) and rows[0].is_plain_dask:
        found += [(_UPPER_BOUNDS.format(bounds=bounds, all=executions), ""), (_ONE_THREAD, "")]
    return found + [(f"  missing: {printable(reason)}", "dim") for reason in reasons]


def node_table(rows: Sequence[NodeRow], started_s: float | None, width: int | None) -> list[Line]:
    """Return a table with a row for each node: its peak, with time and share of the allowed memory, and top worker.

    The column of the allowed memory is called ``Memory``, or ``Allowed`` if a limit is lower than the memory.
    """
    if not rows:
        return []
    limits = _limits(rows)
    titles = ("Peak", "At", "Allowed" if limits else "Memory", "Used", "Top worker", "Limit", "Used")
    columns = [TableColumn("Node", flexible=True), *(TableColumn(title, right=True) for title in titles)]
    cells = [
        [
            row.node,
            _node_peak(row),
            _after(row.peak_time_s, started_s),
            format_bytes(row.allowed_bytes),
            _percent(row.allowed_fraction),
            "-" if row.worker_peak_bytes is None else _bound_of(row) + format_bytes(row.worker_peak_bytes),
            format_bytes(row.limit_bytes),
            _percent(row.limit_fraction),
        ]
        for row in rows
    ]
    found = [
        (line, "bold" if at is None else _fill_style(rows[at])) for at, line in numbered_lines(columns, cells, width)
    ]
    if any(row.peak_bytes is not None and row.is_lower_bound for row in rows):
        found.append((_MEANING["sampled"], "dim"))
    if any(row.counts_shared_pages for row in rows):
        found.append((f"  ~ sampled, {_SHARED_PAGES}", "dim"))
    found += [(f"  {limit}", "dim") for limit in limits]
    for row in rows:
        gpus = ", ".join(f"{name} {_BOUND['sampled']}{format_bytes(size)}" for name, size in row.gpus.items())
        found += [(f"  {row.node}: GPUs, all programs: {gpus}", "")] if gpus else []
    return found + [(f"  {row.node}: {printable(note)}", "dim") for row in rows for note in row.notes]


def _node_peak(row: NodeRow) -> str:
    return "-" if row.peak_bytes is None else _bound_of(row) + format_bytes(row.peak_bytes)


def _bound_of(row: NodeRow) -> str:
    return _BOUND["sampled" if row.is_lower_bound else "unclear"]


def _limits(rows: Sequence[NodeRow]) -> list[str]:
    """Return the limits of nodes below their memory, each once, since nodes of a job mostly have equal limits."""
    found: dict[str, None] = {}
    for row in rows:
        if row.allowed_bytes is not None and row.memory_bytes is not None and row.allowed_bytes < row.memory_bytes:
            source = printable((row.limit_source or "a limit").split(" /")[0])  # without the folder of a cgroup
            allowed, memory = format_bytes(row.allowed_bytes), format_bytes(row.memory_bytes)
            found[f"Allowed: {allowed} by {source}, of {memory} of memory"] = None
    return list(found)


def _after(time_s: float | None, started_s: float | None) -> str:
    return "-" if time_s is None or started_s is None else seconds(max(time_s - started_s, 0.0))


def _percent(fraction: float | None) -> str:
    if fraction is None:
        return "-"
    return f"{100 * fraction:.0f} %" if fraction >= 0.1 else f"{100 * fraction:.1f} %"


def _fill_style(row: NodeRow) -> str:
    fullest = max(row.allowed_fraction or 0.0, row.limit_fraction or 0.0)
    return "bold red" if fullest >= _NEARLY_FULL else "yellow" if fullest >= _FILLING else ""


_SHORT_OF_MEMORY = (
    "  Memory was short there: tasks wait while results go to disk and back, and a paused worker begins none.",
    "  More memory for each worker, fewer threads, or smaller chunks avoid it.",
)


def memory_lines(
    rows: Sequence[MemoryRow], started_s: float | None, width: int | None, most_rows: int | None = None
) -> list[Line]:
    """Return a table of what Dask did because the memory of workers was short; empty if it did nothing."""
    if not rows:
        return []
    columns = [TableColumn("Worker"), TableColumn("Node", flexible=True), TableColumn("Dask")]
    columns += [
        TableColumn(title, right=True) for title in ("Times", "First", "Last", "Size then", "Spilled", "Paused")
    ]
    cells = [
        [
            str(row.pid),
            row.node,
            row.kind,
            str(row.times),
            _after(row.first_s, started_s),
            _after(row.last_s, started_s),
            format_bytes(row.size_bytes),
            "" if row.spilled_bytes is None else format_bytes(row.spilled_bytes),
            "" if row.paused_s is None else seconds(row.paused_s),
        ]
        for row in rows[:most_rows]
    ]
    found = [(f"  {line}", "bold" if at is None else "") for at, line in numbered_lines(columns, cells, width)]
    if len(cells) < len(rows):
        found.append((f"  and {len(rows) - len(cells)} more rows", "dim"))
    if any(row.kind in (SPILLED, PAUSED) for row in rows):
        found += [(line, "dim") for line in _SHORT_OF_MEMORY]
    return found


def killed_lines(records: Sequence[TaskRecord], most: int | None = None) -> list[Line]:
    """Report for each killed task its call, node, last reading and cause of death."""
    found: list[Line] = []
    for record in records[:most]:
        found.append((_call_line(record, f", attempt {record.attempt}"), "red"))
        fraction = record.last_bytes / record.limit_bytes if record.last_bytes and record.limit_bytes else None
        share = f" ({_percent(fraction)})" if fraction is not None else ""
        last = f"last reading {format_bytes(record.last_bytes)}"
        if record.last_bytes is None and record.peak_bytes is not None:  # a call in a process of its own
            last = f"peak >={format_bytes(record.peak_bytes)}"
        found.append((f"    {last}, limit {format_bytes(record.limit_bytes)}{share}", ""))
        if record.children_peak_bytes is not None and record.death is None:
            command = f" ({printable(record.children_command)})" if record.children_command else ""
            found.append((f"    its child processes had {format_bytes(record.children_peak_bytes)}{command}", ""))
        found.append((f"    {printable(record.reason or 'the cause is unknown')}", ""))
        if record.death is not None and (facts := facts_of(record)[1:]):  # the first is above
            found.append((f"    {printable(', '.join(facts))}", ""))
        found += [(f"    {printable(line.strip())}", "") for line in (record.stack or "").splitlines()[-_MOST_FRAMES:]]
    if most is not None and len(records) > most:
        found.append((f"  and {len(records) - most} more killed tasks", "dim"))
    return found


def memory_error_lines(records: Sequence[TaskRecord], most: int | None = None) -> list[Line]:
    """Report the facts about each `MemoryError` that a task raised."""
    found: list[Line] = []
    for record in records[:most]:
        assert record.death is not None
        found.append((_call_line(record, f", attempt {record.attempt}"), "red"))
        found.append((f"    {printable(record.death.words)}", ""))
        found.append((f"    {printable(', '.join(facts_of(record)))}", ""))
    if most is not None and len(records) > most:
        found.append((f"  and {len(records) - most} more", "dim"))
    return found


def _call_line(record: TaskRecord, attempt: str = "") -> str:
    after = f", after {seconds(record.elapsed_s)}" if record.elapsed_s is not None else ""
    what = f"{record.target} {record.data_id}" if record.data_id else record.target
    made_by = f" (made by call {record.parent_id})" if record.parent_id else ""
    call = f"call {record.task_id}{made_by}{attempt}" if record.key is None else f"key {record.key}"
    return printable(f"  {what}, {call}, on {record.node} (process {record.pid}){after}")


def cancelled_lines(records: Sequence[TaskRecord], not_begun: int, most: int | None = None) -> list[Line]:
    """List the tasks that were cancelled while they ran, by reason, and the number of calls that had not begun."""
    found: list[Line] = []
    by_reason: dict[str, list[TaskRecord]] = {}
    for record in records:
        by_reason.setdefault(record.reason or "the run ended before they did", []).append(record)
    for reason, those in by_reason.items():
        found += [(_call_line(record), "") for record in those[:most]]
        if most is not None and len(those) > most:
            found.append((f"  and {len(those) - most} more that were running", "dim"))
        found.append((f"    {printable(reason)}", ""))
    if not_begun:
        found.append((f"  {calls_counted(not_begun)} had not begun", ""))
    return found


def section(title: str, lines: Sequence[Line]) -> list[Line]:
    """Return `lines` after an empty line and a title; empty without lines."""
    return [("", ""), (title, "bold"), *lines] if lines else []
