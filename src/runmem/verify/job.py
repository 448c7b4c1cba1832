"""A Job: measurements in the JSON that ``lsst.verify`` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject, read_json
from runmem.store.output import write_file
from runmem.verify.blob import Blob
from runmem.verify.blob_set import BlobSet
from runmem.verify.measurement import Measurement
from runmem.verify.measurement_set import DuplicateMeasurementError, MeasurementSet
from runmem.verify.metadata import Metadata
from runmem.verify.metric import Metric
from runmem.verify.metric_set import MetricSet
from runmem.verify.name import Name
from runmem.verify.report import Report
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_set import SpecificationSet

__all__ = ["NOT_MEASURED_KEY", "DuplicateMeasurementError", "Job"]

_KEYS = ("measurements", "blobs", "metrics", "specs", "meta")
NOT_MEASURED_KEY = "not_measured"
"""Last part of the entry ``<package>.<metric>.not_measured`` in ``meta``: why a metric has no measurement."""


class Job:
    """Measurements of one run, with their metrics, specifications, blobs and notes.

    A Job has one measurement for each metric, as readers of its JSON expect. A second one is refused, unless it has the
    same identifier or is meant to replace the first; measurements of several runs need separate Jobs.

    Parameters
    ----------
    measurements : MeasurementSet or iterable of Measurement, optional
    metrics : MetricSet or iterable of Metric, optional
        Definitions, which are attached to the measurements.
    specs : SpecificationSet or iterable of ThresholdSpecification, optional
        Of these three a set is used as it is, not copied.
    meta : mapping, optional
        Further entries; notes of measurements are entries too, as ``<package>.<metric>.<note>``.
    blobs : iterable of Blob
        Blobs that no measurement refers to.

    Raises
    ------
    DuplicateMeasurementError
        (a `ValueError`) For two measurements of one metric.
    UnitError
        For a measurement whose unit does not convert into that of its metric.
    """

    def __init__(
        self,
        measurements: MeasurementSet | Iterable[Measurement] | None = None,
        metrics: MetricSet | Iterable[Metric] | None = None,
        specs: SpecificationSet | Iterable[ThresholdSpecification] | None = None,
        meta: Mapping[str, Any] | None = None,
        blobs: Iterable[Blob] = (),
    ) -> None:
        self._metrics = metrics if isinstance(metrics, MetricSet) else MetricSet(metrics)
        self._specs = specs if isinstance(specs, SpecificationSet) else SpecificationSet(specs)
        self._measurements = measurements if isinstance(measurements, MeasurementSet) else MeasurementSet(measurements)
        self._measurements.define(self._metrics)
        self._meta = Metadata(self._measurements, meta)
        self._blobs = BlobSet(blobs)

    # -- content --

    @property
    def measurements(self) -> MeasurementSet:
        """The measurements by the names of their metrics. What is added to the set, is added to the Job."""
        return self._measurements

    @property
    def metrics(self) -> MetricSet:
        """The definitions of metrics, also those of the measurements."""
        return self._metrics

    @property
    def specs(self) -> SpecificationSet:
        """The specifications."""
        return self._specs

    @property
    def meta(self) -> Metadata:
        """The entries, and the notes of the measurements as ``<package>.<metric>.<note>``."""
        return self._meta

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All blobs with data, each once: those of measurements, and those given to the Job."""
        linked = {b.identifier: b for m in self._measurements.values() for b in m.blobs.values() if len(b)}
        return tuple({**self._blobs, **linked}.values())

    def __getitem__(self, metric_name: str) -> Measurement:
        """Return the measurement of ``package.metric``; raises `KeyError`."""
        return self._measurements[metric_name]

    def __contains__(self, metric_name: object) -> bool:
        return metric_name in self._measurements

    def insert(self, measurement: Measurement, replace: bool = False) -> None:
        """Add a measurement, as `MeasurementSet.insert` does."""
        self._measurements.insert(measurement, replace)

    def not_measured(self, metric_name: str, reason: str) -> None:
        """Record the reason why a metric has no measurement, for `report`."""
        self._meta[f"{Name(metric=metric_name)}.{NOT_MEASURED_KEY}"] = reason

    def update(self, other: Job, replace: bool = False) -> None:
        """Add the content of another Job; its definitions and entries replace those with the same name.

        Raises
        ------
        DuplicateMeasurementError
            If both have a measurement of one metric and `replace` is False; then nothing is changed.
        """
        added = self._measurements.checked(other.measurements, replace)
        self._metrics.update(other.metrics)
        self._specs.update(other.specs)
        self._measurements.update(added, replace=True)
        self._meta.update(other.meta)
        self._blobs.update(other._blobs)

    def __iadd__(self, other: Job) -> Job:
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and all(
            getattr(self, part) == getattr(other, part) for part in ("measurements", "metrics", "specs", "meta")
        )

    # -- definitions of a package --

    @classmethod
    def load_metrics_package(
        cls,
        package_name_or_path: Path | str = "verify_metrics",
        subset: str | None = None,
        measurements: MeasurementSet | Iterable[Measurement] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Job:
        """Return a Job with the metrics and specifications of a package. Raises as the sets do."""
        metrics = MetricSet.load_metrics_package(package_name_or_path, subset)
        return cls(measurements, metrics, SpecificationSet.load_metrics_package(package_name_or_path, subset), meta)

    def reload_metrics_package(
        self, package_name_or_path: Path | str = "verify_metrics", subset: str | None = None
    ) -> None:
        """Add the metrics and specifications of a package, and attach the metrics to present measurements."""
        metrics = MetricSet.load_metrics_package(package_name_or_path, subset)
        specs = SpecificationSet.load_metrics_package(package_name_or_path, subset)
        self._measurements.refresh_metrics(metrics)
        self._metrics.update(metrics)
        self._specs.update(specs)

    def report(
        self,
        name: str | None = None,
        spec_tags: Iterable[str] | None = None,
        metric_tags: Iterable[str] | None = None,
    ) -> Report:
        """Check the specifications.

        Parameters
        ----------
        name : str, optional
            Package or metric of the specifications.
        spec_tags, metric_tags : iterable of str, optional
            Tags that the specifications, or their metrics, must have.

        Returns
        -------
        Report
            A row for each specification that applies to the Job's ``meta``, even if its metric was not measured. Its
            text names those that do not apply.
        """
        ending = f".{NOT_MEASURED_KEY}"
        reasons = {key.removesuffix(ending): str(value) for key, value in self._meta.items() if key.endswith(ending)}
        return self._specs.report(self._measurements, name, self._meta, metric_tags, spec_tags, self._metrics, reasons)

    # -- JSON --

    @property
    def json(self) -> JsonObject:
        """The Job as a document for ``lsst.verify.Job.deserialize``.

        That fails for a measurement without a value, so such a one is omitted and ``meta`` has its reason.
        """
        meta, present = self._meta.json, []
        for name, measurement in self._measurements.items():
            if measurement.value is not None:
                present.append(measurement.json)
            else:
                reason = measurement.notes.get("reason") or "no reason is recorded"
                meta.setdefault(f"{name}.{NOT_MEASURED_KEY}", reason)
        return {
            "measurements": present,
            "blobs": [blob.json for blob in self.blobs],
            "metrics": self._metrics.json,
            "specs": self._specs.json,
            "meta": meta,
        }

    @classmethod
    def deserialize(
        cls,
        measurements: Iterable[JsonObject] | None = None,
        blobs: Iterable[JsonObject] | None = None,
        metrics: Iterable[JsonObject] | None = None,
        specs: Iterable[JsonObject] | None = None,
        meta: JsonObject | None = None,
    ) -> Job:
        """Return the Job of a document from `json`."""
        known, definitions = BlobSet.deserialize(blobs), MetricSet.deserialize(metrics)
        found = MeasurementSet.deserialize(measurements, known, definitions)
        return cls(found, definitions, SpecificationSet.deserialize(specs), meta, known.values())

    @classmethod
    def read(cls, path: Path | str) -> Job:
        """Return the Job in the file `path`.

        Raises
        ------
        SettingError
            If the file cannot be read or is not a Job.
        """
        try:
            content = read_json(path)
            if not isinstance(content, dict) or set(content) != set(_KEYS):
                raise ValueError(f"a Job has exactly the keys {', '.join(_KEYS)}")
            return cls.deserialize(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SettingError(f"{path} cannot be read as a Job: {error}") from error

    load = read

    def to_json(self) -> str:
        """Return the JSON text.

        Raises
        ------
        SettingError
            If a value is NaN or infinite, which JSON readers other than Python's refuse, or a note is not of a JSON
            type.
        """
        for measurement in self._measurements.values():
            if measurement.value is not None and not math.isfinite(measurement.value):
                raise SettingError(f"{measurement.metric_name} is {measurement.value}: that cannot be written to a Job")
        try:
            return json.dumps(self.json, indent=1, allow_nan=False) + "\n"
        except (ValueError, TypeError) as error:
            raise SettingError(f"the Job cannot be written: a note or a datum in it: {error}") from error

    def write(self, path: Path | str) -> Path:
        """Write the JSON to `path`, make its folder if it does not exist, and return the path.

        A file is written as a whole or not at all, and keeps its owner and mode; a device or a pipe is written through.

        Raises
        ------
        SettingError
            If the file cannot be written, or as `to_json`.
        """
        target = Path(path)
        text = self.to_json()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_file(target, text)
        except OSError as error:
            raise SettingError(
                f"the Job cannot be written to {target}: {error.strerror or error}. Name another file with --output."
            ) from error
        return target
