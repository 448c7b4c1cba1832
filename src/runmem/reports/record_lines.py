"""The records of a run as lines, one a record."""

from __future__ import annotations

from collections.abc import Sequence

from runmem.events import TaskRecord
from runmem.reports.sections import seconds
from runmem.reports.task_rows import how_measured, unclear_reasons
from runmem.table import TableColumn, lay_out, printable
from runmem.units import format_bytes

__all__ = ["record_lines"]

_COLUMNS = (
    TableColumn("Call", right=True), TableColumn("Try", right=True), TableColumn("Task", flexible=True),
    TableColumn("Node", flexible=True), TableColumn("Process", right=True), TableColumn("Status"),
    TableColumn("Start", right=True), TableColumn("Time", right=True), TableColumn("Base", right=True),
    TableColumn("Peak", right=True), TableColumn("Held", right=True), TableColumn("Increment", right=True),
    TableColumn("How"),
)  # fmt: skip


def record_lines(records: Sequence[TaskRecord], started_s: float | None = None, width: int | None = None) -> list[str]:
    """Return a table with a line per record, in the order in which the tasks started; data ids where there are any.

    ``Held`` is what of the peak was held for other tasks; lines below the table say why increments are unclear.

    Parameters
    ----------
    started_s : float or None
        Time that the column ``Start`` counts from, in seconds since the epoch; None for the first start.
    width : int or None
        Characters that a line may have; None for as many as it takes: a line for each record.
    """
    ordered = sorted(records, key=lambda record: (record.start_s, record.task_id))
    zero_s = started_s if started_s is not None else (ordered[0].start_s if ordered else 0.0)
    columns, cells = list(_COLUMNS), [_cells(record, zero_s) for record in ordered]
    if any(record.data_id for record in ordered):
        columns.insert(3, TableColumn("Data id", flexible=True))
        for row, record in zip(cells, ordered, strict=True):
            row.insert(3, printable(record.data_id or "-"))
    return lay_out(columns, cells, width, keys=3) + [
        f"  ~ {count} unclear: {reason}" for reason, count in unclear_reasons(ordered).items()
    ]


def _cells(record: TaskRecord, zero_s: float) -> list[str]:
    status = f"{record.status} ({record.exception})" if record.exception else record.status
    return [
        str(record.task_id),
        str(record.attempt),
        record.target,
        record.node,
        str(record.pid),
        status,
        f"{record.start_s - zero_s:.3f} s",
        seconds(record.elapsed_s),
        format_bytes(record.base_bytes),
        format_bytes(record.peak_bytes),
        format_bytes(record.held_bytes),
        f"{'~' if record.increment_unclear else ''}{format_bytes(record.increment_bytes)}",
        how_measured(record),
    ]
