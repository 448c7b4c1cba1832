"""A Job: measurements in the JSON that ``lsst.verify`` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runmem.errors import SettingError
from runmem.metrics.measurement import Measurement, Metric

__all__ = ["Job"]

_KEYS = ("measurements", "blobs", "metrics", "specs", "meta")


class Job:
    """Measurements with their metrics and notes.

    Parameters
    ----------
    measurements : iterable of Measurement
        One a metric: a later measurement of the same metric replaces the earlier one, as in ``lsst.verify``.
    metrics : iterable of Metric
    specs, blobs : iterable of dict
        Specifications and blobs of a Job that was read; they are kept as they are.
    meta : mapping
        Further entries; a measurement's notes are entries too, as ``<package>.<metric>.<note>``.
    """

    def __init__(
        self,
        measurements: Iterable[Measurement] = (),
        metrics: Iterable[Metric] = (),
        specs: Iterable[dict[str, Any]] = (),
        meta: Mapping[str, Any] | None = None,
        blobs: Iterable[dict[str, Any]] = (),
    ) -> None:
        self._measurements = {measurement.metric_name: measurement for measurement in measurements}
        self._metrics = {metric.name: metric for metric in metrics}
        self.specs = list(specs)
        self.blobs = list(blobs)
        self.meta = dict(meta or {})

    @property
    def measurements(self) -> list[Measurement]:
        """The measurements, one a metric."""
        return list(self._measurements.values())

    @property
    def metrics(self) -> list[Metric]:
        """The definitions of metrics."""
        return list(self._metrics.values())

    def insert(self, measurement: Measurement) -> None:
        """Add a measurement, in place of an earlier one of the same metric."""
        self._measurements[measurement.metric_name] = measurement

    def __getitem__(self, metric_name: str) -> Measurement:
        """Return the measurement of ``package.metric``; raises `KeyError`."""
        return self._measurements[metric_name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.json == other.json

    __hash__ = None  # type: ignore[assignment]  # mutable

    @property
    def json(self) -> dict[str, Any]:
        """The Job as ``lsst.verify.Job.deserialize`` takes it."""
        notes = {f"{m.metric_name}.{note}": value for m in self.measurements for note, value in m.notes.items()}
        return {
            "measurements": [measurement.json for measurement in self.measurements],
            "blobs": self.blobs,
            "metrics": [metric.json for metric in self.metrics],
            "specs": self.specs,
            "meta": {**self.meta, **notes},
        }

    @classmethod
    def deserialize(
        cls,
        measurements: Iterable[Mapping[str, Any]] | None = None,
        blobs: Iterable[dict[str, Any]] | None = None,
        metrics: Iterable[Mapping[str, Any]] | None = None,
        specs: Iterable[dict[str, Any]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Job:
        """Return the Job of what `json` gave."""
        rest = dict(meta or {})
        found = []
        for entry in measurements or ():
            prefix = f"{entry['metric']}."
            notes = {key.removeprefix(prefix): rest.pop(key) for key in list(rest) if key.startswith(prefix)}
            found.append(
                Measurement(
                    metric_name=entry["metric"],
                    value=entry["value"],
                    unit=entry["unit"] or "",
                    notes=notes,
                    blob_refs=tuple(entry.get("blob_refs") or ()),
                    identifier=entry["identifier"],
                )
            )
        definitions = [
            Metric(m["name"], m["description"], m["unit"], tuple(m.get("tags") or ()), dict(m.get("reference") or {}))
            for m in metrics or ()
        ]
        return cls(found, definitions, specs or (), rest, blobs or ())

    @classmethod
    def read(cls, path: Path | str) -> Job:
        """Return the Job in the file `path`.

        Raises
        ------
        SettingError
            If the file cannot be read or is not a Job.
        """
        try:
            content = json.loads(Path(path).read_bytes())
            if not isinstance(content, dict) or set(content) != set(_KEYS):
                raise ValueError(f"a Job has exactly the keys {', '.join(_KEYS)}")
            return cls.deserialize(**content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingError(f"{path} cannot be read as a Job: {error}") from error

    def write(self, path: Path | str) -> Path:
        """Write the JSON to `path`, whole or not at all, make its folder if need be, and return it.

        Raises
        ------
        SettingError
            If the file cannot be written, or a value is NaN or infinite, which JSON readers other than Python's refuse.
        """
        target = Path(path)
        for measurement in self.measurements:
            if measurement.value is not None and not math.isfinite(measurement.value):
                raise SettingError(f"{measurement.metric_name} is {measurement.value}: that cannot be written to a Job")
        partial = target.with_name(target.name + ".partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self.json, indent=1) + "\n", encoding="utf-8")
            partial.replace(target)
        except OSError as error:
            raise SettingError(
                f"the Job cannot be written to {target}: {error.strerror or error}. Name another file with --output."
            ) from error
        return target
