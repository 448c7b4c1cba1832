"""Convert the records of a run to task metadata, with the keys of LSST's ``timeMethod``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from runmem.events import TaskRecord
from runmem.pipe_base.metadata import METADATA_VERSION, Primitive, TaskMetadata

__all__ = ["metadata_from_records"]


def metadata_from_records(records: Iterable[TaskRecord]) -> TaskMetadata:
    """Return the metadata of all tasks in `records`.

    The task ``wordcount.count_words`` becomes the nested metadata ``wordcount`` with these items; the arrays have one
    element for each record (one execution of the task):

    ``count_wordsStartUtc``, ``count_wordsEndUtc``
        ISO 8601 with +00:00; of executions with both times.
    ``count_wordsStartCpuTime``, ``count_wordsEndCpuTime``
        Processor seconds of the task's thread since the start of the task.
    ``count_wordsStartMaxResidentSetSize``, ``count_wordsEndMaxResidentSetSize``
        Bytes. The high-water mark is reset when the task starts, so the first is the resident set size at the start and
        the second the peak of this task, not of the process's life.
    ``count_wordsExecutions``, ``...Failed``, ``...Killed``
        Scalars: number of records, of exceptions, and of deaths of the process.
    ``count_wordsCutOff``
        Scalar: number of executions without a reported end, because their process died or the run ended first. Their
        end, if any, is the time of the last reading.
    ``count_wordsPeaksMissing``, ``...PeaksSampled``, ``...PeaksShared``
        Scalars: number of missing peaks, of sampled ones (lower bounds), and of those shared with another task (upper
        bounds).
    ``count_wordsPeakMethod``
        Method of the highest peak: ``hwm`` or ``sampled``, followed by ``, shared`` if so.
    ``__version__``, ``nodeName``
        The latter only if all executions ran on one node.

    Notes
    -----
    Assumption: `records` are of one run. Limitation: arrays have no missing values, so a record without a value is
    omitted from that array (never written as 0), and the arrays of a task may differ in length. Values that records do
    not have (user and system time, page faults, context switches) have no key.
    """
    groups: dict[tuple[str, str], _Executions] = defaultdict(_Executions)
    for record in records:
        groups[record.module, record.name].add(record)
    metadata = TaskMetadata()
    nodes: dict[str, set[str]] = defaultdict(set)
    for (module, name), group in groups.items():
        level, _, last = f"{module}.{name}".rpartition(".")
        nodes[level] |= group.nodes
        for item, values in group.arrays.items():
            if values:
                metadata[f"{level}.{last}{item}"] = values
        for item, value in group.scalars().items():
            metadata[f"{level}.{last}{item}"] = value
    for level, names in nodes.items():
        metadata[f"{level}.__version__"] = METADATA_VERSION
        if len(names) == 1:
            metadata[f"{level}.nodeName"] = names.pop()
    return metadata


class _Executions:
    """The values of one task's records, without the records, of which there may be a million."""

    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self._start_utc: list[Primitive] = []
        self._end_utc: list[Primitive] = []
        self._cpu_s: list[Primitive] = []
        self._base_bytes: list[Primitive] = []
        self._peak_bytes: list[Primitive] = []
        self._counts = {"Executions": 0, "PeaksSampled": 0, "PeaksShared": 0, "Failed": 0, "Killed": 0, "CutOff": 0}
        self._highest: TaskRecord | None = None

    def add(self, record: TaskRecord) -> None:
        counts = self._counts
        counts["Executions"] += 1
        self.nodes.add(record.node)
        if record.start_s is not None and record.end_s is not None:
            self._start_utc.append(_utc(record.start_s))
            self._end_utc.append(_utc(record.end_s))
        counts["CutOff"] += record.cpu_s is None
        if record.cpu_s is not None:
            self._cpu_s.append(record.cpu_s)
        if record.base_bytes is not None:
            self._base_bytes.append(record.base_bytes)
        if record.status == "failed":
            counts["Failed"] += 1
        elif record.status == "killed":
            counts["Killed"] += 1
        if (peak := record.peak_bytes) is None:
            return
        self._peak_bytes.append(peak)
        counts["PeaksSampled"] += record.method == "sampled"
        counts["PeaksShared"] += record.shared
        if self._highest is None or peak > (self._highest.peak_bytes or 0):
            self._highest = record

    @property
    def arrays(self) -> dict[str, list[Primitive]]:
        return {
            "StartUtc": self._start_utc,
            "EndUtc": self._end_utc,
            "StartCpuTime": [0.0] * len(self._cpu_s),
            "EndCpuTime": self._cpu_s,
            "StartMaxResidentSetSize": self._base_bytes,
            "EndMaxResidentSetSize": self._peak_bytes,
        }

    def scalars(self) -> dict[str, Primitive]:
        found: dict[str, Primitive] = {
            **self._counts,
            "PeaksMissing": self._counts["Executions"] - len(self._peak_bytes),
        }
        if (highest := self._highest) is not None:
            marks = [", shared"] if highest.shared else []
            if highest.recorded_by is not None:
                marks.append(f", with memory of {highest.recorded_by}")
            found["PeakMethod"] = "".join([highest.method or "unknown", *marks])
        return found


def _utc(time_s: float) -> str:
    seconds, microseconds = divmod(round(time_s * 1e6), 1_000_000)
    return f"{_to_the_second(seconds)}.{microseconds:06d}+00:00"


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    """Format a time without fraction and zone, cached since many tasks start in one second and formatting is slow."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
