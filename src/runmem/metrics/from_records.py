"""Task metadata from the records of a run, with the keys that LSST's ``timeMethod`` writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from runmem.events import TaskRecord
from runmem.metrics.metadata import METADATA_VERSION, Primitive, TaskMetadata

__all__ = ["metadata_from_records"]


def metadata_from_records(records: Iterable[TaskRecord]) -> TaskMetadata:
    """Return the metadata of all tasks in `records`.

    The task ``wordcount.count_words`` becomes the nested metadata ``wordcount`` with these items, the arrays having one
    element a record (one execution of the task):

    ``count_wordsStartUtc``, ``count_wordsEndUtc``
        ISO 8601 with +00:00; of the executions of which both are known.
    ``count_wordsStartCpuTime``, ``count_wordsEndCpuTime``
        Seconds on a clock of the task's thread that is zero when the task starts.
    ``count_wordsStartMaxResidentSetSize``, ``count_wordsEndMaxResidentSetSize``
        Bytes. The high-water mark is reset when the task starts, so the first is the resident set size at the start and
        the second the peak of this task alone, not that of the process's life.
    ``count_wordsExecutions``, ``...PeaksMissing``, ``...PeaksSampled``, ``...PeaksShared``, ``...Failed``,
    ``...Killed``
        Scalars: how many records there were, how many had no peak, a sampled one (a lower bound), one shared with an
        overlapping task (an upper bound), and how many ended in an exception or by the death of the process.
    ``count_wordsPeakMethod``
        How the highest peak was obtained: ``hwm`` or ``sampled``, with ``, shared`` where that applies.
    ``__version__``, ``nodeName``
        The second only where all executions ran on one node.

    Notes
    -----
    Assumption: `records` are of one run. Limitation: arrays cannot hold a missing value, so a record without one is
    left out of that array (never written as 0), and the arrays of a task may then differ in length. What a record does
    not hold (user and system time, page faults, context switches) has no key.
    """
    groups: dict[tuple[str, str], list[TaskRecord]] = defaultdict(list)
    for record in records:
        groups[record.module, record.name].append(record)
    metadata = TaskMetadata()
    nodes: dict[str, set[str]] = defaultdict(set)
    for (module, name), group in groups.items():
        level, _, last = f"{module}.{name}".rpartition(".")
        nodes[level].update(record.node for record in group)
        for item, values in _arrays(group).items():
            if values:
                metadata[f"{level}.{last}{item}"] = values
        for item, value in _scalars(group).items():
            metadata[f"{level}.{last}{item}"] = value
    for level, names in nodes.items():
        metadata[f"{level}.__version__"] = METADATA_VERSION
        if len(names) == 1:
            metadata[f"{level}.nodeName"] = names.pop()
    return metadata


def _arrays(group: list[TaskRecord]) -> dict[str, list[Primitive]]:
    cpu_times: list[Primitive] = [record.cpu_s for record in group if record.cpu_s is not None]
    times_s = [(r.start_s, r.end_s) for r in group if r.start_s is not None and r.end_s is not None]
    return {
        "StartUtc": [_utc(start_s) for start_s, _ in times_s],
        "EndUtc": [_utc(end_s) for _, end_s in times_s],
        "StartCpuTime": [0.0] * len(cpu_times),
        "EndCpuTime": cpu_times,
        "StartMaxResidentSetSize": [record.base_bytes for record in group if record.base_bytes is not None],
        "EndMaxResidentSetSize": [record.peak_bytes for record in group if record.peak_bytes is not None],
    }


def _utc(time_s: float) -> str:
    seconds, microseconds = divmod(round(time_s * 1e6), 1_000_000)
    return f"{_to_the_second(seconds)}.{microseconds:06d}+00:00"


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    """Return a time without its fraction and zone. (Many tasks start in one second, and formatting it is slow.)"""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _scalars(group: list[TaskRecord]) -> dict[str, Primitive]:
    measured = [record for record in group if record.peak_bytes is not None]
    counts: dict[str, Primitive] = {
        "Executions": len(group),
        "PeaksMissing": len(group) - len(measured),
        "PeaksSampled": sum(record.method == "sampled" for record in measured),
        "PeaksShared": sum(record.shared for record in measured),
        "Failed": sum(record.status == "failed" for record in group),
        "Killed": sum(record.status == "killed" for record in group),
    }
    if measured:
        highest = max(measured, key=lambda record: record.peak_bytes or 0)
        counts["PeakMethod"] = (highest.method or "unknown") + (", shared" if highest.shared else "")
    return counts
