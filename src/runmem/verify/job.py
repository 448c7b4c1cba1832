"""A Job: measurements in the JSON that ``lsst.verify`` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from runmem.errors import SettingError
from runmem.reading import JsonObject, read_json
from runmem.store.output import write_file
from runmem.verify.blob import Blob
from runmem.verify.from_lsst import as_measurement
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.metric_set import MetricSet
from runmem.verify.name import Name
from runmem.verify.report import Report, judge
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_set import SpecificationSet

__all__ = ["NOT_MEASURED_KEY", "DuplicateMeasurementError", "Job"]

_KEYS = ("measurements", "blobs", "metrics", "specs", "meta")
NOT_MEASURED_KEY = "not_measured"
"""Last part of the entry ``<package>.<metric>.not_measured`` in ``meta``: why a metric has no measurement."""


class DuplicateMeasurementError(SettingError):
    """A second measurement of a metric in one Job, which would replace the first."""


class Job:
    """Measurements of one run, with their metrics, specifications, blobs and notes.

    A Job has one measurement for each metric, as readers of its JSON expect. A second one is refused, unless it has the
    same identifier or is meant to replace the first; measurements of several runs need separate Jobs.

    Parameters
    ----------
    measurements : iterable of Measurement
    metrics : iterable of Metric, or MetricSet
        Definitions, which are attached to the measurements.
    specs : iterable of ThresholdSpecification, or SpecificationSet
    meta : mapping
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
        measurements: Iterable[Measurement] = (),
        metrics: Iterable[Metric] | MetricSet = (),
        specs: Iterable[ThresholdSpecification] | SpecificationSet = (),
        meta: JsonObject | None = None,
        blobs: Iterable[Blob] = (),
    ) -> None:
        self.metrics = metrics if isinstance(metrics, MetricSet) else MetricSet(metrics)
        self.specs = specs if isinstance(specs, SpecificationSet) else SpecificationSet(specs)
        self.meta = dict(meta or {})
        self._blobs = {blob.identifier: blob for blob in blobs}
        self._measurements: dict[str, Measurement] = {}
        for measurement in measurements:
            self.insert(measurement)

    # -- content --

    @property
    def measurements(self) -> list[Measurement]:
        """The measurements, one for each metric."""
        return list(self._measurements.values())

    @property
    def blobs(self) -> list[Blob]:
        """All blobs with data, each once."""
        linked = {b.identifier: b for m in self.measurements for b in m.blobs.values() if len(b)}
        return list({**self._blobs, **linked}.values())

    def __getitem__(self, metric_name: str) -> Measurement:
        """Return the measurement of ``package.metric``; raises `KeyError`."""
        return self._measurements[metric_name]

    def __contains__(self, metric_name: object) -> bool:
        return metric_name in self._measurements

    def insert(self, measurement: Measurement, replace: bool = False) -> None:
        """Add a measurement.

        Parameters
        ----------
        measurement : Measurement
            Or one of ``lsst.verify``, which is converted.
        replace : bool
            Whether it replaces another measurement of its metric.

        Raises
        ------
        DuplicateMeasurementError
            If the Job has another measurement of the metric and `replace` is False.
        """
        measurement = as_measurement(measurement)
        if not isinstance(measurement, Measurement):
            raise SettingError(f"{measurement!r} cannot be added to a Job: give a Measurement")
        name = str(measurement.metric_name)
        before = self._measurements.get(name)
        if before is not None and not replace and before.identifier != measurement.identifier:
            raise DuplicateMeasurementError(
                f"the Job has a measurement of {name} already: {before} ({before.identifier}), and now {measurement} "
                f"({measurement.identifier}). Make a Job for each run, or pass replace=True."
            )
        if measurement.metric is not None:
            self.metrics.setdefault(name, measurement.metric)
        elif name in self.metrics:
            measurement.attach_metric(self.metrics[name])
        self._measurements[name] = measurement

    def not_measured(self, metric_name: str, reason: str) -> None:
        """Record the reason why a metric has no measurement, for `report`."""
        self.meta[f"{Name(metric=metric_name)}.{NOT_MEASURED_KEY}"] = reason

    def update(self, other: Job, replace: bool = False) -> None:
        """Add the content of another Job; its definitions and entries replace those with the same name.

        Raises
        ------
        DuplicateMeasurementError
            If both have a measurement of one metric and `replace` is False; then nothing is changed.
        """
        Job(self.measurements).insert_all(other.measurements, replace)
        self.metrics.update(other.metrics)
        self.specs.update(other.specs)
        self.meta.update(other.meta)
        self._blobs.update(other._blobs)
        self.insert_all(other.measurements, replace)

    def insert_all(self, measurements: Iterable[Measurement], replace: bool = False) -> None:
        """Add measurements, each as `insert` does."""
        for measurement in measurements:
            self.insert(measurement, replace)

    def __iadd__(self, other: Job) -> Job:
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.json == other.json

    # -- definitions of a package --

    @classmethod
    def load_metrics_package(
        cls,
        package_name_or_path: Path | str = "verify_metrics",
        subset: str | None = None,
        measurements: Iterable[Measurement] = (),
        meta: JsonObject | None = None,
    ) -> Job:
        """Return a Job with the metrics and specifications of a package. Raises as the sets do."""
        job = cls(meta=meta)
        job.reload_metrics_package(package_name_or_path, subset)
        job.insert_all(measurements)
        return job

    def reload_metrics_package(
        self, package_name_or_path: Path | str = "verify_metrics", subset: str | None = None
    ) -> None:
        """Add the metrics and specifications of a package, and attach the metrics to present measurements."""
        metrics = MetricSet.load_metrics_package(package_name_or_path, subset)
        specs = SpecificationSet.load_metrics_package(package_name_or_path, subset)
        for name, measurement in self._measurements.items():
            if name in metrics:
                measurement.attach_metric(metrics[name])
        self.metrics.update(metrics)
        self.specs.update(specs)

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
            A row for each specification that applies to the Job's ``meta``, even if its metric was not measured.
        """
        wanted = set(metric_tags or ())
        tags = {key: sorted(metric.tags) for key, metric in self.metrics.items()}
        tags |= {key: sorted(m.metric.tags) for key, m in self._measurements.items() if m.metric}
        specs = self.specs.subset(name, self.meta, spec_tags).values()
        ending = f".{NOT_MEASURED_KEY}"
        reasons = {key.removesuffix(ending): str(value) for key, value in self.meta.items() if key.endswith(ending)}
        chosen = [spec for spec in specs if wanted <= set(tags.get(str(spec.metric_name), ()))]
        return judge(chosen, self._measurements, tags, reasons)

    # -- JSON --

    @property
    def json(self) -> JsonObject:
        """The Job as a document for ``lsst.verify.Job.deserialize``.

        That fails for a measurement without a value, so such a one is omitted and ``meta`` has its reason.
        """
        notes = {f"{m.metric_name}.{note}": value for m in self.measurements for note, value in m.notes.items()}
        for unmeasured in (m for m in self.measurements if m.value is None):
            key = f"{unmeasured.metric_name}.{NOT_MEASURED_KEY}"
            notes[key] = self.meta.get(key) or unmeasured.notes.get("reason") or "no reason is recorded"
        return {
            "measurements": [measurement.json for measurement in self.measurements if measurement.value is not None],
            "blobs": [blob.json for blob in self.blobs],
            "metrics": self.metrics.json,
            "specs": self.specs.json,
            "meta": {**self.meta, **notes},
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
        rest, known = dict(meta or {}), [Blob.deserialize(**document) for document in blobs or ()]
        definitions = MetricSet.deserialize(metrics)
        found = []
        for entry in measurements or ():
            if missing := [key for key in ("metric", "identifier", "value", "unit") if key not in entry]:
                raise SettingError(f"the measurement {entry!r} has no {', no '.join(missing)}")
            prefix = f"{entry['metric']}."
            notes = {key.removeprefix(prefix): rest.pop(key) for key in list(rest) if key.startswith(prefix)}
            fields = {key: entry[key] for key in ("metric", "identifier", "value", "unit")}
            found.append(Measurement.deserialize(**fields, blob_refs=entry.get("blob_refs"), blobs=known, notes=notes))
        return cls(found, definitions, SpecificationSet.deserialize(specs), rest, known)

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
        for measurement in self.measurements:
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
