"""Format the records of a run as a table with one line for each."""

from __future__ import annotations

from collections.abc import Sequence

from runmem.events import TaskRecord
from runmem.reports.sections import seconds
from runmem.reports.task_rows import how_measured, unclear_reasons
from runmem.table import TableColumn, lay_out, printable
from runmem.units import format_bytes

__all__ = ["record_lines"]

_LEFT, _FLEXIBLE = ("Task", "Node", "Status", "How"), ("Task", "Node")
_NUMBERS = ("Start", "Time", "Base", "Peak", "Held", "Increment")
_TITLES = ("Call", "Try", "Task", "Node", "Process", "Status", *_NUMBERS, "How")
_COLUMNS = [TableColumn(title, right=title not in _LEFT, flexible=title in _FLEXIBLE) for title in _TITLES]


def record_lines(records: Sequence[TaskRecord], started_s: float | None = None, width: int | None = None) -> list[str]:
    """Return a table with a line for each record, in the order of their starts, with data ids and callers if any.

    ``Held`` is the part of the peak that was stored for other tasks; lines below the table give the reasons for unclear
    increments.

    Parameters
    ----------
    started_s : float or None
        Zero of the column ``Start``, in seconds since the epoch; default the first start.
    width : int or None
        Longest line in characters; None for one line for each record.
    """
    ordered = sorted(records, key=lambda record: (record.start_s, record.task_id))
    zero_s = started_s if started_s is not None else (ordered[0].start_s if ordered else 0.0)
    columns, cells = list(_COLUMNS), [_cells(record, zero_s) for record in ordered]
    if any(record.data_id for record in ordered):
        columns.insert(3, TableColumn("Data id", flexible=True))
        for row, record in zip(cells, ordered, strict=True):
            row.insert(3, printable(record.data_id or "-"))
    if any(record.parent_id for record in ordered):
        columns.insert(1, TableColumn("Made by", right=True))
        for row, record in zip(cells, ordered, strict=True):
            row.insert(1, str(record.parent_id or "-"))
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
        f"{'>=' if record.is_cut_off else ''}{seconds(record.elapsed_s)}",
        format_bytes(record.base_bytes),
        format_bytes(record.peak_bytes),
        format_bytes(record.held_bytes),
        f"{'~' if record.increment_unclear else ''}{format_bytes(record.increment_bytes)}",
        how_measured(record),
    ]
