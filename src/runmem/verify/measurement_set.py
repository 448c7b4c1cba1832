"""A set of measurements of different metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.verify.blob import Blob
from runmem.verify.from_lsst import as_measurement
from runmem.verify.measurement import Measurement
from runmem.verify.metric_set import MetricSet
from runmem.verify.name import Name
from runmem.verify.named_items import ItemSet

__all__ = ["DuplicateMeasurementError", "MeasurementSet"]


class DuplicateMeasurementError(SettingError):
    """A second measurement of a metric in one set, which would replace the first."""


class MeasurementSet(ItemSet[Measurement]):
    """Measurements by the names of their metrics.

    A second measurement of a metric is refused, unless it has the same identifier or is meant to replace the first:
    ``insert(measurement, replace=True)`` or ``measurements[name] = measurement``.

    Parameters
    ----------
    measurements : iterable of Measurement, optional

    Raises
    ------
    DuplicateMeasurementError
        (a `ValueError`) For two measurements of one metric.
    """

    _kind = Measurement
    _advice = "give a Measurement"
    _called = ("Measurement", "Measurements")

    def __init__(self, measurements: Iterable[Measurement] | None = None) -> None:
        self._definitions: list[MetricSet] = []  # of the Jobs that contain this set
        super().__init__(measurements)

    def _name_of(self, item: Measurement) -> Name:
        return item.metric_name

    def __setitem__(self, key: str, item: Measurement) -> None:
        item = as_measurement(item)
        before = self._items.get(key)
        super().__setitem__(key, item)
        try:
            for metrics in self._definitions:
                _define(item, metrics)
        except SettingError:
            del self._items[key]
            if before is not None:
                self._items[key] = before
            raise

    def insert(self, item: Measurement, replace: bool = False) -> None:
        """Add a measurement.

        Parameters
        ----------
        replace : bool
            Whether it replaces another measurement of its metric.

        Raises
        ------
        DuplicateMeasurementError
            If there is another measurement of the metric and `replace` is False.
        VerifyTypeError
            (a `ValueError` and a `TypeError`) If it is no measurement.
        """
        item = as_measurement(item)
        if not replace and isinstance(item, Measurement):
            self._check(item)
        super().insert(item)

    def _check(self, item: Measurement) -> None:
        before = self._items.get(item.metric_name)
        if before is not None and before.identifier != item.identifier:
            raise DuplicateMeasurementError(
                f"there is a measurement of {item.metric_name} already: {before} ({before.identifier}), and now {item} "
                f"({item.identifier}). Make a Job for each run, or pass replace=True."
            )

    def update(  # type: ignore[override]
        self, other: Mapping[str, Measurement] | Iterable[Measurement], replace: bool = False
    ) -> None:
        """Add measurements, of another set or others.

        Raises
        ------
        DuplicateMeasurementError
            If there is another measurement of one of the metrics and `replace` is False; then nothing is changed.
        """
        for measurement in self.checked(other, replace).values():
            self.insert(measurement, replace=True)

    def checked(
        self, other: Mapping[str, Measurement] | Iterable[Measurement], replace: bool = False
    ) -> MeasurementSet:
        """Return measurements that `update` can add, as a set. Raises as `update`."""
        added = MeasurementSet()
        for measurement in other.values() if isinstance(other, Mapping) else other:
            added.insert(measurement, replace)
        if not replace:
            for measurement in added.values():
                self._check(measurement)
        return added

    def define(self, metrics: MetricSet) -> None:
        """Attach definitions to the measurements, present and later ones, and add the measurements' own to them."""
        for measurement in self.values():
            _define(measurement, metrics)
        self._definitions.append(metrics)

    def refresh_metrics(self, metric_set: MetricSet) -> None:
        """Replace the definitions of the measurements by those of `metric_set` with the same names."""
        for name, measurement in self.items():
            if name in metric_set:
                measurement.metric = metric_set[name]

    @classmethod
    def deserialize(
        cls,
        measurements: Iterable[JsonObject] | None = None,
        blob_set: Mapping[str, Blob] | None = None,
        metric_set: MetricSet | None = None,
    ) -> MeasurementSet:
        """Return the measurements of documents from `json`, with their blobs and definitions.

        Raises
        ------
        SettingError
            For an entry that is missing or not known.
        """
        found = cls()
        for document in measurements or ():
            missing = [key for key in ("metric", "identifier", "value", "unit") if key not in document]
            unknown = [key for key in document if key not in ("metric", "identifier", "value", "unit", "blob_refs")]
            if missing or unknown:
                what = f"has no {', no '.join(missing)}" if missing else f"has the unknown entry {unknown[0]!r}"
                raise SettingError(f"the measurement {document!r} {what}")
            fields: dict[str, Any] = dict(document)
            if metric_set is not None and fields["metric"] in metric_set:
                fields["metric"] = metric_set[fields["metric"]]
            found.insert(Measurement.deserialize(**{"blob_refs": (), **fields}, blobs=blob_set))
        return found


def _define(measurement: Measurement, metrics: MetricSet) -> None:
    name = measurement.metric_name
    if measurement.metric is not None:
        metrics.setdefault(name, measurement.metric)
    elif name in metrics:
        measurement.metric = metrics[name]
