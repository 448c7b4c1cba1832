"""Memory and time of the quanta of each task of a repository, as numbers for reports and measurements."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from runmem.metrics.quantum_usage import QuantumUsage
from runmem.pipe_base.peak_owner import CONTAMINATED, OWN, SHARED
from runmem.reading import JsonObject

__all__ = ["UNCLEAR", "AboveThreshold", "PeakStatistics", "TaskUsage"]

UNCLEAR = "unclear"
"""Peaks of which the metadata do not show whether they are the quantum's own."""

_OWNERS = (OWN, CONTAMINATED, SHARED, UNCLEAR)
_HOUR_S = 3600
_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class AboveThreshold:
    """The executions whose peak is above a threshold.

    Attributes
    ----------
    threshold_bytes, executions : int
    wall_hours : float
        Their wall time together, without those whose time is unknown.
    """

    threshold_bytes: int
    executions: int
    wall_hours: float


@dataclass(frozen=True)
class PeakStatistics:
    """The peaks of executions of one task.

    Attributes
    ----------
    owner : str
        ``own``, ``contaminated`` (upper bounds), ``shared`` (upper bounds too) or ``unclear``.
    executions : int
    mean_bytes, median_bytes : float
    min_bytes, max_bytes, p95_bytes : int
        The last is the 95th percentile by nearest rank.
    wall_hours : float
        Wall time of all these executions together, without those whose time is unknown.
    above : tuple of AboveThreshold
    """

    owner: str
    executions: int
    mean_bytes: float
    median_bytes: float
    min_bytes: int
    max_bytes: int
    p95_bytes: int
    wall_hours: float
    above: tuple[AboveThreshold, ...]

    def as_dict(self) -> JsonObject:
        """Return the values as a JSON object."""
        return {**vars(self), "above": [dict(vars(above)) for above in self.above]}


@dataclass
class _Peaks:
    """Peaks and times of any number of executions, 16 bytes each."""

    sizes_bytes: array[int] = field(default_factory=lambda: array("q"))
    walls_s: array[float] = field(default_factory=lambda: array("d"))  # NaN if unknown

    def statistics(self, owner: str, thresholds_bytes: Sequence[int]) -> PeakStatistics:
        sizes, walls_s = np.frombuffer(self.sizes_bytes, np.int64), np.frombuffer(self.walls_s)
        hours = np.nan_to_num(walls_s) / _HOUR_S
        return PeakStatistics(
            owner=owner,
            executions=len(sizes),
            mean_bytes=float(sizes.mean()),
            median_bytes=float(np.median(sizes)),
            min_bytes=int(sizes.min()),
            max_bytes=int(sizes.max()),
            p95_bytes=int(np.sort(sizes)[math.ceil(0.95 * len(sizes)) - 1]),
            wall_hours=float(hours.sum()),
            above=tuple(
                AboveThreshold(threshold, int((sizes > threshold).sum()), float(hours[sizes > threshold].sum()))
                for threshold in thresholds_bytes
            ),
        )


class TaskUsage:
    """The executions of one task: one for each quantum that was read.

    Parameters
    ----------
    label : str
        Label of the task in its pipeline.

    Attributes
    ----------
    executions : int
        All of them, also without a peak or with damaged metadata.
    without_peak, without_time, damaged : int
    problems : list of str
        What is wrong with the first damaged ones.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.executions = self.without_peak = self.without_time = self.damaged = 0
        self.problems: list[str] = []
        self._peaks: dict[str, _Peaks] = {}

    def add(self, usages: Iterable[QuantumUsage | str]) -> None:
        """Add executions; a text says what is wrong with its metadata."""
        for usage in usages:
            self.executions += 1
            if isinstance(usage, str):
                self.damaged += 1
                if len(self.problems) < _MOST_PROBLEMS:
                    self.problems.append(usage)
                continue
            peak_bytes, owner, wall_s = usage
            self.without_time += wall_s is None
            if peak_bytes is None:
                self.without_peak += 1
                continue
            peaks = self._peaks.setdefault(owner or UNCLEAR, _Peaks())
            peaks.sizes_bytes.append(peak_bytes)
            peaks.walls_s.append(math.nan if wall_s is None else wall_s)

    def statistics(self, thresholds_bytes: Sequence[int] = ()) -> list[PeakStatistics]:
        """Return the statistics of own, contaminated, shared and unclear peaks, each if there are any."""
        return [self._peaks[owner].statistics(owner, thresholds_bytes) for owner in _OWNERS if owner in self._peaks]

    def as_dict(self, thresholds_bytes: Sequence[int] = ()) -> JsonObject:
        """Return counts and statistics as a JSON object; sizes in bytes."""
        counts = {name: getattr(self, name) for name in ("executions", "without_peak", "without_time", "damaged")}
        peaks = [statistics.as_dict() for statistics in self.statistics(thresholds_bytes)]
        return {"task": self.label, **counts, "problems": list(self.problems), "peaks": peaks}
