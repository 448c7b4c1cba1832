"""Counts the calls of each task, and how they ended: also known where memory is not measured."""

from __future__ import annotations

from collections import Counter

from runmem.collection.observer import Observer
from runmem.events import TaskEnded, TaskSubmitted
from runmem.table import TableColumn, lay_out

__all__ = ["TaskCounts"]

_STATUSES = ("finished", "failed", "cancelled")
_COLUMNS = [TableColumn("Task", flexible=True), *(TableColumn(t, True) for t in ("Calls", *map(str.title, _STATUSES)))]


class TaskCounts(Observer):
    """Counts calls by the name of their task, in the order in which the program first called them."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()

    def task_submitted(self, event: TaskSubmitted) -> None:
        """Count a call."""
        self._calls[event.name] += 1

    def task_ended(self, event: TaskEnded) -> None:
        """Count an end."""
        self._ended[event.name, event.status] += 1

    def lines(self, width: int | None = None) -> list[str]:
        """Return the lines of a table, the titles first; none without calls."""
        rows = [
            [name, str(count), *(str(self._ended[name, status]) for status in _STATUSES)]
            for name, count in self._calls.items()
        ]
        return lay_out(_COLUMNS, rows, width) if rows else []
