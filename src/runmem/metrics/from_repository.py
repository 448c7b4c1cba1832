"""Measure the quanta of each task of a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from runmem.metrics.from_run import camel_case
from runmem.metrics.usage_summary import PeakStatistics, TaskUsage
from runmem.pipe_base.peak_owner import CONTAMINATED
from runmem.reading import JsonObject
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.name import checked_part

__all__ = ["job_of_usages", "package_of"]

_METRICS = {
    "": ("max_bytes", "Highest peak"),
    "Mean": ("mean_bytes", "Mean of the peaks"),
    "Median": ("median_bytes", "Median of the peaks"),
    "P95": ("p95_bytes", "95th percentile of the peaks"),
}


def package_of(uri: str, package: str | None) -> str:
    """Return the first part of the metrics' names: `package`, or the name of the repository's folder.

    Raises SettingError for a name with a dot or white space.
    """
    if package is not None:
        return checked_part("package", package, "package ")
    return re.sub(r"[^\w-]", "_", PurePath(uri.rstrip("/")).name) or "repository"


def job_of_usages(package: str, usages: Iterable[TaskUsage]) -> Job:
    """Return a Job with the metrics ``<Label>Memory``, ``...Mean``, ``...Median`` and ``...P95`` of each task.

    They are of the own peaks of its quanta; only if there are none, of the contaminated ones, which are upper bounds.
    The notes say which, and count the others.
    """
    job = Job()
    for usage in usages:
        base = f"{package}.{camel_case(usage.label)}Memory"
        statistics = usage.statistics()
        for ending, (attribute, words) in _METRICS.items():
            metric = Metric(f"{base}{ending}", f"{words} of the quanta of {usage.label}", "byte", tags=["memory"])
            job.metrics.insert(metric)
            if not statistics:
                job.not_measured(metric.name, f"none of {usage.executions} quanta of {usage.label} has a peak")
                continue
            chosen = statistics[0]  # own peaks are the first
            job.insert(Measurement(metric, getattr(chosen, attribute), "byte", _notes(usage, chosen, statistics)))
    return job


def _notes(usage: TaskUsage, chosen: PeakStatistics, statistics: list[PeakStatistics]) -> JsonObject:
    notes: JsonObject = {
        "estimator": "quantum metadata", "target": usage.label, "peak": chosen.owner,
        "method": chosen.owner, "executions": usage.executions,
    }  # fmt: skip
    notes |= {f"peaks_{peaks.owner}": peaks.executions for peaks in statistics}
    notes |= {f"{peaks.owner}_max_bytes": peaks.max_bytes for peaks in statistics if peaks.owner == CONTAMINATED}
    missing = {"peaks_missing": usage.without_peak, "damaged": usage.damaged}
    return notes | {note: count for note, count in missing.items() if count} | {"wall_hours": chosen.wall_hours}
