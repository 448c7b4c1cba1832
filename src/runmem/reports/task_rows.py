"""The executions of each task as a row of a report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from runmem.events import TaskRecord
from runmem.formats.mprof import FORKED

__all__ = ["TaskRow", "counts_shared_pages", "task_rows", "how_measured", "unclear_reasons", "percentile"]

LEAST_FOR_P95 = 20
"""With fewer values the 95th percentile would be the highest, so it is omitted."""


@dataclass(frozen=True)
class TaskRow:
    """The executions of one task.

    Attributes
    ----------
    target, name : str
        ``module.name``, and the shortest name that is unique in the run.
    calls, executions : int
        Calls in the program (tasks of a plain Dask program: keys), and executions, which include repeated ones.
    failed, killed : int
        Executions that raised, and those whose process died.
    max_peak_bytes, p95_peak_bytes : int or None
        Highest peak, and the 95th percentile of the peaks (nearest rank); None without a peak, and the latter also with
        fewer than 20.
    median_increment_bytes, max_increment_bytes : int or None
        Median and highest of the clear increments, or of the unclear ones if there are no others.
    unclear_increments : int
        Number of unclear increments (see `TaskRecord.increment_unclear`).
    increments_are_clear : bool
        Whether median and highest are of clear increments.
    max_node, max_how : str or None
        Node of the highest peak, and what it is as the highest of all executions: how it was measured (see
        `how_measured`), unless another one, sampled or missing, may have had more (see `others_may_be_higher`).
    exact, sampled, shared, unclear, missing : int
        Number of executions whose peak is exact; sampled (a lower bound); shared with an overlapping task (an upper
        bound); sampled and shared (neither bound); or unknown. With `recorded` they add up to `executions`.
    recorded : int
        Number of executions whose allocations were recorded, with memory of the tool in the peak (an upper bound).
    is_plain_dask : bool
        Whether it is a task of a plain Dask program.
    tried_again : int
        Number of executions that raised and were followed by another one of the same call.
    children_peak_bytes : int or None
        Highest peak of the child processes of an execution.
    children_command : str or None
        Command of the children with the largest share of it.
    children_how : str or None
        What it is, as `max_how` for a task's peak: ``exact`` (the kernel's mark of one process), ``sampled``,
        ``shared`` or ``unclear`` (also where forked processes share memory, which counts in each).
    children_missed : int
        Number of executions that had children of which no peak is known.
    gpu_peak_bytes : int or None
        Highest memory on GPUs, a lower bound.
    others_may_be_higher : bool
        Whether an execution that was sampled, or has no peak, may have had more than the highest that is known:
        `max_how` is then ``sampled`` (a lower bound) in place of ``exact``, and ``unclear`` in place of other kinds.
    p95_how, increments_how : str or None
        What the 95th percentile is, and median and highest of the increments: ``exact``, ``sampled`` (a lower bound),
        ``shared`` (an upper bound) or ``unclear`` (neither).
    """

    target: str
    name: str
    calls: int
    executions: int
    failed: int
    killed: int
    max_peak_bytes: int | None
    p95_peak_bytes: int | None
    median_increment_bytes: int | None
    max_increment_bytes: int | None
    unclear_increments: int
    increments_are_clear: bool
    max_node: str | None
    max_how: str | None
    exact: int
    sampled: int
    shared: int
    unclear: int
    missing: int
    is_plain_dask: bool = False
    tried_again: int = 0
    recorded: int = 0
    children_peak_bytes: int | None = None
    children_command: str | None = None
    children_how: str | None = None
    children_missed: int = 0
    gpu_peak_bytes: int | None = None
    others_may_be_higher: bool = False
    p95_how: str | None = None
    increments_how: str | None = None


def how_measured(record: TaskRecord) -> str:
    """Return ``exact``, ``sampled``, ``shared``, ``recorded``, ``unclear`` or ``missing``.

    ``recorded``: memray recorded the allocations; ``unclear``: sampled, and shared or recorded.
    """
    if record.peak_bytes is None:
        return "missing"
    how = _how(record.method, record.shared)
    if record.recorded_by is None or record.shared:
        return how
    return "recorded" if how == "exact" else "unclear"


def _how(method: str | None, shared: bool) -> str:
    if method == "hwm":
        return "shared" if shared else "exact"
    return "unclear" if shared else "sampled"


def unclear_reasons(records: Iterable[TaskRecord]) -> Counter[str]:
    """Count the reasons for unclear increments, without their individual bounds."""
    return Counter(
        record.increment_unclear.partition(": ")[2] or record.increment_unclear
        for record in records
        if record.increment_bytes is not None and record.increment_unclear
    )


def task_rows(records: Iterable[TaskRecord], metric: str = "rss") -> list[TaskRow]:
    """Return a row for each task, in descending order of their highest peaks, with those without a peak last.

    Parameters
    ----------
    metric : str
        What was read in samples: ``rss``, ``pss`` or ``uss``.
    """
    groups: dict[str, list[TaskRecord]] = defaultdict(list)
    for record in records:
        groups[record.target].append(record)
    short = Counter(group[0].name for group in groups.values())
    rows = [_row(target, group, short[group[0].name] == 1, metric) for target, group in groups.items()]
    return sorted(rows, key=lambda row: (-(row.max_peak_bytes or 0), row.target))


def _row(target: str, group: list[TaskRecord], name_is_unique: bool, metric: str) -> TaskRow:
    measured = [record for record in group if record.peak_bytes is not None]
    highest = max(measured, key=lambda record: record.peak_bytes or 0, default=None)
    how = Counter(map(how_measured, group))
    peaks = [peak for record in measured if (peak := record.peak_bytes) is not None]
    increments = [record for record in group if record.increment_bytes is not None]
    clear = [record for record in increments if record.increment_unclear is None]
    last: dict[object, int] = defaultdict(int)
    for record in group:
        last[_call_of(record)] = max(last[_call_of(record)], record.attempt)
    counted = [more for record in clear or increments if (more := record.increment_bytes) is not None]
    parents = [record for record in group if record.children_peak_bytes is not None]
    of_children = max(parents, key=lambda record: record.children_peak_bytes or 0, default=None)
    max_how = how_measured(highest) if highest else None
    may_be_higher = max_how in ("exact", "shared", "recorded") and bool(
        how["sampled"] + how["unclear"] + how["missing"]
    )
    return TaskRow(
        target=target,
        name=group[0].name if name_is_unique else target,
        calls=len(last),
        executions=len(group),
        failed=sum(record.status == "failed" for record in group),
        killed=sum(record.status == "killed" for record in group),
        max_peak_bytes=highest.peak_bytes if highest else None,
        p95_peak_bytes=percentile(peaks, 95) if len(peaks) >= LEAST_FOR_P95 else None,
        median_increment_bytes=percentile(counted, 50),
        max_increment_bytes=max(counted, default=None),
        unclear_increments=len(increments) - len(clear),
        increments_are_clear=bool(clear) or not increments,
        max_node=highest.node if highest else None,
        max_how=max_how if not may_be_higher else "sampled" if max_how == "exact" else "unclear",
        exact=how["exact"],
        sampled=how["sampled"],
        shared=how["shared"],
        unclear=how["unclear"],
        missing=how["missing"],
        is_plain_dask=group[0].key is not None,
        tried_again=sum(record.status == "failed" and record.attempt < last[_call_of(record)] for record in group),
        recorded=how["recorded"],
        children_peak_bytes=of_children.children_peak_bytes if of_children else None,
        children_command=of_children.children_command if of_children else None,
        children_how=_how_of_children(of_children, group, metric) if of_children else None,
        children_missed=sum(record.children_method == "missed" for record in group),
        gpu_peak_bytes=max((peak for record in group if (peak := record.gpu_peak_bytes) is not None), default=None),
        others_may_be_higher=may_be_higher,
        p95_how=_bound_of({kind for kind in how if how[kind]} - {"missing"}),
        increments_how=_bound_of_increments(clear or increments, bool(clear)),
    )


def _how_of_children(highest: TaskRecord, group: list[TaskRecord], metric: str) -> str:
    """Classify the highest peak of children as that of all executions: another one may have had more."""
    how = _how(highest.children_method, highest.shared)
    if counts_shared_pages(highest, metric):
        return "unclear"
    if how in ("exact", "shared") and any(record.children_method in ("sampled", "missed") for record in group):
        return "sampled" if how == "exact" else "unclear"
    return how


def counts_shared_pages(record: TaskRecord, metric: str) -> bool:
    """Return True if memory that child processes share may count in each of them: they have run no other program."""
    return metric == "rss" and record.children_method == "sampled" and record.children_command == FORKED


def _bound_of(kinds: set[str]) -> str | None:
    """Classify an order statistic of peaks of these kinds; None without any."""
    lower, upper = "sampled" in kinds, bool(kinds & {"shared", "recorded"})
    if "unclear" in kinds or (lower and upper):
        return "unclear"
    return "sampled" if lower else "shared" if upper else "exact" if kinds else None


def _bound_of_increments(counted: list[TaskRecord], are_clear: bool) -> str | None:
    if not counted:
        return None
    if not are_clear:
        return "unclear"
    return "sampled" if any(record.method == "sampled" for record in counted) else "exact"


def _call_of(record: TaskRecord) -> object:
    return record.task_id if record.key is None else record.key


def percentile(values: Iterable[int], percent: float) -> int | None:
    """Return the nearest-rank percentile: the smallest value that at least `percent` % of the values do not exceed.

    It is always one of the values; of fewer than 20 values the 95th percentile is therefore the maximum. None for no
    values.

    Raises ValueError if `percent` is not above 0 and at most 100.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is not a percentage above 0 and at most 100")
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]
