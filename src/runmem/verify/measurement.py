"""The measurement of a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from runmem.reading import JsonObject
from runmem.verify import quantity as quantities
from runmem.verify.blob import Blob
from runmem.verify.datum import Datum
from runmem.verify.errors import VerifyTypeError
from runmem.verify.identified import Identified
from runmem.verify.measurement_notes import MeasurementNotes
from runmem.verify.metric import Metric, metric_name
from runmem.verify.name import Name

__all__ = ["Measurement", "Metric"]


_known_name = lru_cache(maxsize=256, typed=True)(metric_name)  # a metric may have a million measurements


class Measurement(Identified):
    """The value of one metric.

    Parameters
    ----------
    metric : str, Name or Metric
        ``package.metric``, or the definition. The value must convert into its unit, and is written in it.
    quantity : quantity, float or None
        An astropy quantity, a `Quantity`, or a number in `unit`. None if nothing could be measured.
    unit : str, optional
        Name of a unit in astropy; default the metric's, or ``byte``.
    notes : mapping of str to str, float, int or bool
        How the value was measured.
    blobs : iterable of Blob
    extras : mapping of str to Datum
        Data of this measurement only, stored in a blob with the name of the metric.
    identifier : str, optional
        32 hexadecimal digits; random by default.

    Raises
    ------
    VerifyTypeError
        (a `ValueError` and a `TypeError`) For a name that is not of a metric, a value that is not one number, or a blob
        or an extra that is none.
    UnitError
        (a `ValueError` and a `TypeError`) For a unit that astropy does not have, such as ``bytes``, or that does not
        convert into the metric's unit.

    Attributes
    ----------
    identifier : str
    """

    def __init__(
        self,
        metric: str | Metric,
        quantity: object = None,
        unit: str | None = None,
        notes: JsonObject | None = None,
        blobs: Iterable[Blob] | None = None,
        extras: Mapping[str, Datum] | None = None,
        identifier: str | None = None,
    ) -> None:
        self._metric = metric if isinstance(metric, Metric) else None
        self._metric_name = _known_name(metric) if self._metric is None else self._metric.name
        self._identifier = identifier
        self._notes = MeasurementNotes(self._metric_name, notes)
        self._blobs: dict[str, Blob] = {}
        for blob in blobs or ():
            self.link_blob(blob)
        if extras:
            self.extras.update(extras)
        self.unknown_blob_refs: list[str] = []  # references of a Job that does not contain the blobs
        self._value: float | None = None
        self._unit = "byte"
        if hasattr(quantity, "unit"):
            self.quantity = quantity
        else:
            default = self._metric.unit if self._metric else "byte"
            self._set(quantity, quantities.check_unit(default if unit is None else unit))

    @property
    def metric(self) -> Metric | None:
        """The definition of the metric, if known. When it is set, the measurement takes its name.

        Setting it raises `VerifyTypeError` for another object, and `UnitError` if the value does not convert into its
        unit; then the measurement is unchanged.
        """
        return self._metric

    @metric.setter
    def metric(self, metric: Metric) -> None:
        if not isinstance(metric, Metric):
            raise VerifyTypeError(f"{metric!r} is not the definition of a metric: give a Metric")
        before, self._metric = self._metric, metric
        if self._value is not None:
            try:
                self._set(self._value, self._unit)
            except quantities.UnitError:
                self._metric = before
                raise
        self.metric_name = metric.name

    @property
    def metric_name(self) -> Name:
        """``package.metric``."""
        return self._metric_name

    @metric_name.setter
    def metric_name(self, given: str) -> None:
        extras = self._blobs.pop(str(self._metric_name), None)
        self._metric_name = self._notes.metric_name = metric_name(given)
        if extras is not None:  # their blob has the name of the metric
            extras.name = str(self._metric_name)
            self._blobs[extras.name] = extras

    @property
    def notes(self) -> MeasurementNotes:
        """How the value was measured."""
        return self._notes

    @notes.setter
    def notes(self, given: MeasurementNotes) -> None:
        self._notes = MeasurementNotes(self._metric_name, given)

    @property
    def value(self) -> float | None:
        """The number in `unit`; None if nothing could be measured."""
        return self._value

    @property
    def unit(self) -> str:
        """Name of the unit of `value`."""
        return self._unit

    @property
    def quantity(self) -> Any:
        """The value as an astropy quantity (a `Quantity` without astropy); None without a value."""
        return None if self._value is None else quantities.quantity(self._value, self._unit)

    @quantity.setter
    def quantity(self, given: object) -> None:
        value, unit = quantities.parts_of(given)
        self._set(value, self._unit if value is None else unit)

    def _set(self, value: object, unit: str) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            if isinstance(value, bool) or not hasattr(value, "__float__"):  # a number of numpy has it
                raise VerifyTypeError(f"{self.metric_name} = {value!r} is not a number: give a number or None")
            value = float(value)
        if self._metric is not None and not quantities.same_kind(unit, self._metric.unit):
            raise quantities.UnitError(
                f"{self.metric_name} is defined in {self._metric.unit or 'no unit'}: {value} {unit} does not convert"
            )
        self._value, self._unit = value, unit

    @property
    def blobs(self) -> dict[str, Blob]:
        """The blobs by name; the blob of the extras is made here, since most measurements have none."""
        name = str(self.metric_name)
        if name not in self._blobs:
            self._blobs[name] = Blob(name)
        return self._blobs

    @property
    def extras(self) -> Blob:
        """The data of this measurement only."""
        return self.blobs[str(self.metric_name)]

    @property
    def description(self) -> str | None:
        """The description of the metric, if its definition is known."""
        return self.metric.description if self.metric else None

    @property
    def datum(self) -> Datum:
        """The value as a datum."""
        return Datum(self.value, self.unit, str(self.metric_name), self.description)

    def link_blob(self, blob: Blob) -> None:
        """Add a reference to a blob; raises `VerifyTypeError` for another object."""
        if not isinstance(blob, Blob):
            raise VerifyTypeError(f"{self._metric_name}: {blob!r} is not a Blob")
        self._blobs[blob.name] = blob

    @property
    def blob_refs(self) -> list[str]:
        """Identifiers of the blobs with data."""
        return [*self.unknown_blob_refs, *(blob.identifier for blob in self._blobs.values() if len(blob))]

    @property
    def json(self) -> JsonObject:
        """The measurement as an entry of ``measurements`` in a Job, in the unit of its metric if known.

        The notes are in the Job's ``meta``. The unit of a missing value is None.
        """
        unit = self._metric.unit if self._metric else self.unit
        value = None if self.value is None else float(quantities.converted(self.value, self.unit, unit))
        return {
            "metric": str(self.metric_name),
            "identifier": self.identifier,
            "value": value,
            "unit": None if value is None else unit,
            "blob_refs": self.blob_refs,
        }

    @classmethod
    def deserialize(
        cls,
        metric: str | Metric,
        identifier: str | None = None,
        value: float | None = None,
        unit: str | None = None,
        blob_refs: Iterable[str] | None = None,
        blobs: Mapping[str, Blob] | Iterable[Blob] | None = None,
        notes: JsonObject | None = None,
    ) -> Measurement:
        """Return the measurement of a document from `json`, with those of `blobs` that it refers to.

        Without references it has all of `blobs`, which may be a `BlobSet`.
        """
        given: Iterable[Blob] = blobs.values() if isinstance(blobs, Mapping) else blobs or ()
        known = {blob.identifier: blob for blob in given}
        refs = list(known if blob_refs is None else blob_refs)
        taken = [known[ref] for ref in refs if ref in known]
        found = cls(metric, value, unit or "", notes, taken, identifier=identifier)
        found.unknown_blob_refs = [ref for ref in refs if ref not in known]
        return found

    def __eq__(self, other: object) -> bool:
        """Return True if metric, value (to 9 digits, in any unit) and notes are equal."""
        if not isinstance(other, Measurement) or self.metric_name != other.metric_name or self.notes != other.notes:
            return False
        if self.value is None or other.value is None:
            return self.value is other.value
        if not quantities.same_kind(other.unit, self.unit):
            return False
        return math.isclose(self.value, quantities.converted(other.value, other.unit, self.unit))

    def __str__(self) -> str:
        return f"{self.metric_name}: {quantities.text_of(self.value, self.unit, digits='')}"

    def _repr_latex_(self) -> str:
        """Return the value for a notebook."""
        return "-" if self.value is None else quantities.latex_of(float(self.value), self.unit, "0.1f")

    def __repr__(self) -> str:
        return f"Measurement({str(self.metric_name)!r}, {self.value!r}, {self.unit!r}, notes={dict(self.notes)!r})"
