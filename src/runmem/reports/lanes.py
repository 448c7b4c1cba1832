"""Arrange tasks as bars on lanes: one lane for each worker process, or more if its tasks overlap."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runmem.events import TaskRecord
from runmem.formats.mprof import Bracket
from runmem.reports.task_rows import how_measured

__all__ = ["Bar", "bars_of_records", "bars_of_brackets", "lanes"]


@dataclass(frozen=True)
class Bar:
    """A task from `start_s` to `end_s` (seconds since the epoch) on the worker `lane`.

    Its peak (bytes) is None if it is not exactly that of this task alone.
    """

    name: str
    lane: str
    start_s: float
    end_s: float
    killed: bool = False
    peak_bytes: int | None = None


def bars_of_records(records: Iterable[TaskRecord]) -> list[Bar]:
    """Return a bar for each record that has an end."""
    return [
        Bar(
            record.name,
            f"worker {record.pid}",
            record.start_s,
            record.end_s,
            record.status == "killed",
            record.peak_bytes if how_measured(record) == "exact" else None,
        )
        for record in records
        if record.end_s is not None
    ]


def bars_of_brackets(brackets: Iterable[Bracket]) -> list[Bar]:
    """Return a bar for each bracket of a trace, whose worker is unknown."""
    return [Bar(bracket.name, "", bracket.start_s, bracket.end_s) for bracket in brackets]


def lanes(bars: Sequence[Bar]) -> list[tuple[str, list[Bar]]]:
    """Return ``(name, bars)`` for the fewest lanes without overlapping bars; only a worker's first lane has a name."""
    by_worker: dict[str, list[Bar]] = defaultdict(list)
    for bar in bars:
        by_worker[bar.lane].append(bar)
    found = []
    for worker in sorted(by_worker, key=_natural):
        rows: list[list[Bar]] = []
        free: list[tuple[float, int]] = []  # time at which each lane becomes free
        for bar in sorted(by_worker[worker], key=lambda bar: bar.start_s):
            if free and free[0][0] <= bar.start_s:
                _, row = heapq.heappop(free)
            else:
                row = len(rows)
                rows.append([])
            rows[row].append(bar)
            heapq.heappush(free, (bar.end_s, row))
        found += [("" if number else worker, row) for number, row in enumerate(rows)]
    return found


def _natural(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return int(digits or 0), name
