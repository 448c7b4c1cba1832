"""The measurement of a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.verify import quantity as quantities
from runmem.verify.blob import Blob
from runmem.verify.datum import Datum
from runmem.verify.identified import Identified
from runmem.verify.metric import Metric
from runmem.verify.name import Name

__all__ = ["Measurement", "Metric"]


@lru_cache(maxsize=256)
def _known_name(metric: str) -> Name:
    """Return the name of a metric, cached since a metric may have a million measurements."""
    name = Name(metric=metric)
    if not name.is_metric:
        raise SettingError(f"{metric!r} is the name of a specification: a metric is called package.metric")
    return name


def _name_of(metric: Any) -> Name:
    if isinstance(metric, Metric):
        return metric.name
    return _known_name(metric if type(metric) is str else str(Name(metric=metric)))


class Measurement(Identified):
    """The value of one metric.

    Parameters
    ----------
    metric : str or Metric
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
    SettingError
        (a `ValueError`) For a name that is not ``package.metric``, or a value that is not one number.
    UnitError
        (a `ValueError` and a `TypeError`) For a unit that astropy does not have, such as ``bytes``, or that does not
        convert into the metric's unit.

    Attributes
    ----------
    metric_name : Name
    metric : Metric or None
    notes : dict
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
        self.metric = metric if isinstance(metric, Metric) else None
        self.metric_name = _name_of(metric)
        self._identifier = identifier
        self.notes = dict(notes or {})
        self._blobs = {blob.name: blob for blob in blobs} if blobs else {}
        if extras:
            self.extras.update(extras)
        self.unknown_blob_refs: list[str] = []  # references of a Job that does not contain the blobs
        self._value: float | None = None
        self._unit = "byte"
        if hasattr(quantity, "unit"):
            self.quantity = quantity
        else:
            default = self.metric.unit if self.metric else "byte"
            self._set(quantity, quantities.check_unit(default if unit is None else unit))

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
                raise SettingError(f"{self.metric_name} = {value!r} is not a number: give a number or None")
            value = float(value)
        if self.metric is not None and not quantities.same_kind(unit, self.metric.unit):
            raise quantities.UnitError(
                f"{self.metric_name} is defined in {self.metric.unit or 'no unit'}: {value} {unit} does not convert"
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

    def attach_metric(self, metric: Metric) -> None:
        """Set the definition of the metric.

        Raises
        ------
        UnitError
            If the value does not convert into its unit; then the measurement is unchanged.
        """
        before, self.metric = self.metric, metric
        try:
            self._set(self._value, self._unit)
        except quantities.UnitError:
            self.metric = before
            raise

    def link_blob(self, blob: Blob) -> None:
        """Add a reference to a blob."""
        self._blobs[blob.name] = blob

    @property
    def blob_refs(self) -> list[str]:
        """Identifiers of the blobs with data."""
        return [*self.unknown_blob_refs, *(blob.identifier for blob in self._blobs.values() if len(blob))]

    @property
    def json(self) -> JsonObject:
        """The measurement as an entry of ``measurements`` in a Job, in the unit of its metric if known.

        The notes are in the Job's ``meta``.
        """
        unit = self.metric.unit if self.metric else self.unit
        value = None if self.value is None else float(quantities.converted(self.value, self.unit, unit))
        return {
            "metric": str(self.metric_name),
            "identifier": self.identifier,
            "value": value,
            "unit": unit,
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
        blobs: Iterable[Blob] | None = None,
        notes: JsonObject | None = None,
    ) -> Measurement:
        """Return the measurement of a document from `json`, with those of `blobs` that it refers to."""
        refs, known = list(blob_refs or ()), {blob.identifier: blob for blob in blobs or ()}
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
        return f"{self.metric_name}: {quantities.text_of(self.value, self.unit)}"

    def __repr__(self) -> str:
        return f"Measurement({str(self.metric_name)!r}, {self.value!r}, {self.unit!r}, notes={self.notes!r})"
