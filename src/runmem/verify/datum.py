"""A value with a unit, a label and a description."""

from __future__ import annotations

from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.verify import quantity as quantities

__all__ = ["Datum"]


class Datum:
    """A quantity, text, boolean, integer or None, with a label and a description.

    Parameters
    ----------
    quantity : quantity, str, bool, int, float, list of float or None
        A float or a list needs a `unit`, which may be empty.
    unit : str, optional
        Name of a unit in astropy.
    label, description : str, optional

    Raises
    ------
    SettingError
        (a `ValueError`) For a value of another type, a float or list without a unit, or a unit that does not exist.
    """

    __slots__ = ("value", "unit", "label", "description")

    def __init__(
        self, quantity: object = None, unit: str | None = None, label: str | None = None, description: str | None = None
    ) -> None:
        value, own_unit = quantities.parts_of(quantity)
        if hasattr(value, "tolist"):  # a number or an array of numpy
            value = value.tolist()
        name = own_unit or unit
        if value is not None and not isinstance(value, (str, bool, int, float, list, tuple)):
            raise SettingError(f"{value!r} is a {type(value).__name__}: a datum holds numbers, a text, a bool or None")
        if isinstance(value, (float, list, tuple)) and name is None and not hasattr(quantity, "unit"):
            raise SettingError(f"the datum {value!r} has no unit: give one, '' for a plain number")
        self.value: object = list(value) if isinstance(value, tuple) else value
        self.unit = "" if value is None or isinstance(value, (str, bool)) else quantities.check_unit(name or "")
        self.label = label
        self.description = description

    @property
    def quantity(self) -> Any:
        """The value with its unit, as an astropy quantity if installed; without unit for types that have none."""
        if self.value is None or isinstance(self.value, (str, bool)) or (isinstance(self.value, int) and not self.unit):
            return self.value
        return quantities.quantity(self.value, self.unit)

    @property
    def json(self) -> JsonObject:
        """The datum as a document; an integer with a unit becomes a float, since lsst.verify drops its unit."""
        value = float(self.value) if self.unit and isinstance(self.value, int) else self.value
        return {"value": value, "unit": self.unit, "label": self.label, "description": self.description}

    @classmethod
    def deserialize(
        cls, value: object = None, unit: str | None = None, label: str | None = None, description: str | None = None
    ) -> Datum:
        """Return the datum of the values of a document from `json`."""
        return cls(value, unit or "", label, description)

    @classmethod
    def from_json(cls, document: JsonObject) -> Datum:
        """Return the datum of a document from `json`."""
        return cls.deserialize(**document)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Datum) and self.json == other.json

    def __str__(self) -> str:
        shown = f"{self.value} {self.unit}".rstrip()
        described = f"\n{self.description}" if self.description else ""
        return (f"{self.label} = " if self.label else "") + shown + described

    def __repr__(self) -> str:
        return f"Datum({self.value!r}, {self.unit!r}, {self.label!r}, {self.description!r})"
