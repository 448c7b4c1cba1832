"""The table of the quanta of each task of a repository."""

from __future__ import annotations

from collections.abc import Sequence

from runmem.metrics.usage_summary import PeakStatistics, TaskUsage
from runmem.table import TableColumn, lay_out, printable
from runmem.units import format_bytes

__all__ = ["usage_lines"]

_EXPLAINED = {
    "own": "own: reached during the quantum",
    "contaminated": "contaminated: reached before the quantum in the same process, for example by an earlier one; an "
    "upper bound",
    "shared": "shared: another call overlapped; an upper bound",
    "unclear": "unclear: the metadata do not show whether it was reached during the quantum; an upper bound",
}
_MOST_PROBLEMS = 5


def usage_lines(usages: Sequence[TaskUsage], thresholds_bytes: Sequence[int], width: int | None = None) -> list[str]:
    """Return a table with a row for each task and kind of peak, then what could not be read.

    Parameters
    ----------
    usages : sequence of TaskUsage
    thresholds_bytes : sequence of int
        For each, the executions above it and their wall hours.
    width : int, optional
        Of the terminal.
    """
    columns = [TableColumn("Task", flexible=True), TableColumn("Peaks")]
    columns += [TableColumn(name, right=True) for name in ("Quanta", "Mean", "Median", "Min", "Max", "95 %", "Hours")]
    for threshold in thresholds_bytes:
        columns += [TableColumn(f"> {format_bytes(threshold)}", right=True), TableColumn("hours", right=True)]
    found = [(usage.label, peaks) for usage in usages for peaks in usage.statistics(thresholds_bytes)]
    lines = lay_out(columns, [_row(label, peaks) for label, peaks in found], width, keys=2)
    kinds = {peaks.owner for _, peaks in found}
    lines += ["", *(f"  {text}" for kind, text in _EXPLAINED.items() if kind in kinds)]
    for usage in usages:
        lines += _not_read(usage)
    return lines


def _row(label: str, peaks: PeakStatistics) -> list[str]:
    sizes = (peaks.mean_bytes, peaks.median_bytes, peaks.min_bytes, peaks.max_bytes, peaks.p95_bytes)
    row = [label, peaks.owner, f"{peaks.executions:,}", *map(format_bytes, sizes), _hours(peaks.wall_hours)]
    for above in peaks.above:
        row += [f"{above.executions:,}", _hours(above.wall_hours)]
    return row


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 0.05 or hours == 0 else f"{hours * 3600:.1f} s"


def _not_read(usage: TaskUsage) -> list[str]:
    lines = []
    for count, what in ((usage.without_peak, "no peak"), (usage.without_time, "no wall time")):
        if count:
            lines.append(f"  {usage.label}: the metadata of {count:,} of {usage.executions:,} quanta have {what}")
    if usage.damaged:
        lines.append(
            f"  {usage.label}: the metadata of {usage.damaged:,} of {usage.executions:,} quanta cannot be read:"
        )
        lines += [f"    {printable(problem)}" for problem in usage.problems[:_MOST_PROBLEMS]]
        if usage.damaged > _MOST_PROBLEMS:
            lines.append(f"    and {usage.damaged - _MOST_PROBLEMS:,} more")
    return lines
