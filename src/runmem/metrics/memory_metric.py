"""The memory that a task took, from its metadata: the counterpart of ``lsst.verify``'s MemoryMetricTask."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from runmem.errors import SettingError
from runmem.metrics.errors import MetricComputationError, NoWorkFound
from runmem.metrics.measurement import Measurement
from runmem.metrics.metadata import TaskMetadata
from runmem.metrics.struct import Struct

__all__ = ["MemoryMetricConfig", "MemoryMetricConnections", "MemoryMetricTask"]

_LARGEST = 2**63
_ITEM = "EndMaxResidentSetSize"
_COUNTS = {
    "Executions": "executions",
    "PeaksMissing": "peaks_missing",
    "PeaksSampled": "peaks_sampled",
    "PeaksShared": "peaks_shared",
    "Failed": "failed",
    "Killed": "killed",
}


@dataclass(slots=True)
class MemoryMetricConnections:
    """Names of what goes in and what comes out.

    Attributes
    ----------
    package, metric : str
        The metric is called ``package.metric``; neither part has a dot.
    labelName : str
        Label of the task whose metadata are read.
    metadata : str or None
        Full name of the input, in place of `labelName` (the older form).
    """

    package: str | None = None
    metric: str | None = None
    labelName: str = ""
    metadata: str | None = None

    @property
    def inputName(self) -> str:
        """Name of the metadata that are read."""
        return self.metadata or f"{self.labelName}_metadata"

    @property
    def outputName(self) -> str:
        """Name of the measurement that is written."""
        return f"metricvalue_{self.package}_{self.metric}"


@dataclass(slots=True)
class MemoryMetricConfig:
    """Which task's memory is measured, and under what name; an unknown attribute is refused.

    Attributes
    ----------
    connections : MemoryMetricConnections
    target : str
        The method or function, such as ``wordcount.count_words``; it may be the end of the full name. Required.
    metadataDimensions : list of str
        Dimensions of the metadata, for pipelines.
    saveLogOutput, saveMetadata : bool
        Whether a pipeline keeps the log and the metadata of the metric task itself (`saveMetadata`: the older form).
        `MemoryMetricTask.run` writes neither.
    """

    connections: MemoryMetricConnections = field(default_factory=MemoryMetricConnections)
    target: str | None = None
    metadataDimensions: list[str] = field(default_factory=lambda: ["detector", "instrument", "visit"])
    saveLogOutput: bool = True
    saveMetadata: bool = True

    @property
    def metricName(self) -> str:
        """``package.metric``."""
        return f"{self.connections.package}.{self.connections.metric}"

    def validate(self) -> None:
        """Check the values.

        Raises
        ------
        SettingError
            (a `ValueError`) If a required value is missing, or the package or the metric has a dot.
        """
        for name in ("package", "metric"):
            value = getattr(self.connections, name)
            if not isinstance(value, str) or not value:
                raise SettingError(f"connections.{name} is {value!r}: the metric needs a {name} name")
            if "." in value:
                raise SettingError(f"connections.{name} is {value!r}: a {name} name may not contain a dot")
        if not isinstance(self.target, str) or not self.target:
            raise SettingError(
                f"target is {self.target!r}: name the task to measure, for example wordcount.count_words"
            )


class MemoryMetricTask:
    """Compute the memory of one task, in bytes, from metadata with the keys of ``timeMethod``.

    Parameters
    ----------
    config : MemoryMetricConfig

    Raises
    ------
    SettingError
        If the configuration is not valid.

    Notes
    -----
    Assumption: the values are peaks. Those that runmem wrote are peaks of the task itself; those that LSST's
    ``timeMethod`` wrote are the highest the process had reached by then, whichever task it owed it to. Limitation: of
    several values the maximum is taken (``lsst.verify`` takes the last), and a sampled one among them is a lower bound;
    the notes say how many there were of each kind.
    """

    ConfigClass: ClassVar[type[MemoryMetricConfig]] = MemoryMetricConfig

    def __init__(self, config: MemoryMetricConfig | None = None) -> None:
        self.config = self.ConfigClass() if config is None else config
        self.config.validate()

    def run(self, metadata: TaskMetadata | Mapping[str, Any] | Path | str | None) -> Struct:
        """Return ``Struct(measurement=...)``.

        Parameters
        ----------
        metadata : TaskMetadata, mapping, path or None
            The metadata; a mapping of names to values or in the JSON form; the path of a JSON file; or any object with
            ``paramNames`` and ``getArray``.

        Raises
        ------
        NoWorkFound
            If no full name contains ``<target>EndMaxResidentSetSize``.
        MetricComputationError
            If several do, or a value or the version is malformed; the message names the key and the value.
        """
        content = TaskMetadata() if metadata is None else _as_metadata(metadata)
        key = self._matching_key(content)
        level, _, item = key.rpartition(".")
        beside = content.level(level)
        notes: dict[str, Any] = {}
        factor = _unit_bytes(content, level, beside, notes)
        sizes = [_checked_size(key, value) for value in content.getArray(key)]
        if not sizes:
            raise MetricComputationError(f"invalid metadata: {key} = [] has no value")
        notes |= _notes(beside, item.removesuffix(_ITEM), len(sizes))
        measurement = Measurement(self.config.metricName, int(max(sizes) * factor), "byte", notes)
        return Struct(measurement=measurement)

    def _matching_key(self, metadata: TaskMetadata) -> str:
        names: set[str] = metadata.paramNames(topLevelOnly=False)
        found = sorted(name for name in names if f"{self.config.target}{_ITEM}" in name)
        if len(found) == 1:
            return found[0]
        if found:
            raise MetricComputationError(
                f"target {self.config.target!r} is ambiguous: it fits {', '.join(found)}. Give more of the name."
            )
        if any(f"{self.config.target}PeaksMissing" in name for name in names):
            raise NoWorkFound(f"no execution of {self.config.target} has a measured peak; was memory profiling on?")
        raise NoWorkFound(f"the metadata hold no {self.config.target}{_ITEM}")


def _as_metadata(metadata: Any) -> TaskMetadata:
    if isinstance(metadata, TaskMetadata):
        return metadata
    try:
        if isinstance(metadata, (str, Path)):
            return TaskMetadata.read(metadata)
        if isinstance(metadata, Mapping):
            as_json = TaskMetadata.is_json_form(metadata)
            return TaskMetadata.from_json(metadata) if as_json else TaskMetadata.from_dict(metadata)
        return TaskMetadata.from_metadata(metadata)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MetricComputationError(f"invalid metadata: {error}") from error


def _checked_size(key: str, value: object) -> float:
    """Return a size that is a positive number: 0 is what a failed reading looks like, and no process is that small."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a number")
    if not 0 < value < _LARGEST:  # also false for NaN
        raise MetricComputationError(f"invalid metadata: {key} = {value!r} is not a size of memory")
    return value


def _unit_bytes(content: TaskMetadata, level: str, beside: TaskMetadata, notes: dict[str, Any]) -> int:
    """Return how many bytes the unit of the values has, by the version of the metadata and the writer's platform."""
    if _version(f"{level}.__version__".lstrip("."), beside) >= 1:
        return 1
    platform = _inherited(content, level, "platform")
    if platform is None:
        platform = sys.platform
        notes["unit_assumed"] = f"metadata of version 0 do not say their platform; taken as written on {platform}"
    if str(platform).startswith("darwin"):
        return 1
    if str(platform).startswith(("sunos", "solaris")):
        return _page_bytes(_inherited(content, level, "pageSize"), notes)
    return 1024


def _version(key: str, beside: TaskMetadata) -> float:
    """Return the version of the metadata, 0 where it is missing or empty."""
    found = [version for version in beside.getArray("__version__") if version != ""] if "__version__" in beside else []
    for version in found:
        if isinstance(version, bool) or not isinstance(version, (int, float)) or not version >= 0 or version % 1:
            raise MetricComputationError(f"invalid metadata: {key} = {version!r} is not a version number")
    if len(set(found)) > 1:
        raise MetricComputationError(f"invalid metadata: {key} = {found!r} is more than one version")
    return float(found[0]) if found else 0.0


def _page_bytes(page_size: object, notes: dict[str, Any]) -> int:
    if isinstance(page_size, int) and page_size > 0:
        return page_size
    import resource  # not on every platform

    notes["page_size_assumed"] = f"{resource.getpagesize()} byte, that of this machine"
    return resource.getpagesize()


def _inherited(content: TaskMetadata, level: str, item: str) -> object:
    """Return `item` from the metadata at `level`, or else from the nearest level above that has it."""
    parts = level.split(".") if level else []
    for depth in range(len(parts), -1, -1):
        value: object = content.get(".".join([*parts[:depth], item]))
        if value is not None:
            return value
    return None


def _notes(beside: TaskMetadata, prefix: str, value_count: int) -> dict[str, Any]:
    """Return what is known of how the value came about."""
    ours = f"{prefix}Executions" in beside
    notes: dict[str, Any] = {"estimator": "runmem task records" if ours else "utils.timer.timeMethod"}
    if value_count > 1:
        notes["values"] = f"the maximum of {value_count} values"
    if f"{prefix}PeakMethod" in beside:
        notes["method"] = beside[f"{prefix}PeakMethod"]
    return notes | {note: beside[prefix + item] for item, note in _COUNTS.items() if prefix + item in beside}
