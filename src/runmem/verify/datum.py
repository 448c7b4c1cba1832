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
        Name of a unit in astropy; not used if the quantity has one.
    label, description : str, optional

    Raises
    ------
    SettingError
        (a `ValueError`) For a value of another type, a float or list without a unit, or a unit that does not exist.
    """

    __slots__ = ("_value", "_unit", "label", "description")

    def __init__(
        self, quantity: object = None, unit: str | None = None, label: str | None = None, description: str | None = None
    ) -> None:
        self._set(quantity, unit)
        self.label = label
        self.description = description

    def _set(self, quantity: object, unit: str | None) -> None:
        value, own_unit = quantities.parts_of(quantity)
        if hasattr(value, "tolist"):  # a number or an array of numpy
            value = value.tolist()
        name = own_unit if hasattr(quantity, "unit") else unit
        if value is not None and not isinstance(value, (str, bool, int, float, list, tuple)):
            raise SettingError(f"{value!r} is a {type(value).__name__}: a datum holds numbers, a text, a bool or None")
        if isinstance(value, (float, list, tuple)) and name is None:
            raise SettingError(f"the datum {value!r} has no unit: give one, '' for a plain number")
        has_unit = not (value is None or isinstance(value, (str, bool)) or (isinstance(value, int) and not name))
        self._unit = quantities.check_unit(name or "") if has_unit else None
        self._value: object = list(value) if isinstance(value, tuple) else value

    @property
    def value(self) -> Any:
        """The number, list of numbers, text, boolean or None."""
        return self._value

    @property
    def unit(self) -> str | None:
        """Name of the unit, which equals astropy's unit of this name; None for a text, a boolean, a count or None."""
        return self._unit

    @property
    def unit_str(self) -> str:
        """Name of the unit; empty where there is none."""
        return self._unit or ""

    @property
    def latex_unit(self) -> str:
        """The unit in LaTeX; empty where there is none."""
        return quantities.latex_of("", self._unit, "").strip() if self._unit else ""

    @property
    def quantity(self) -> Any:
        """The value with its unit, as an astropy quantity if installed; without unit for types that have none.

        Set it to a quantity, or to a text, boolean, integer or None. Raises as `Datum`.
        """
        return self._value if self._unit is None else quantities.quantity(self._value, self._unit)

    @quantity.setter
    def quantity(self, given: object) -> None:
        self._set(given, None)

    @property
    def json(self) -> JsonObject:
        """The datum as a document; an integer with a unit becomes a float, since lsst.verify drops its unit."""
        value = float(self._value) if self._unit and isinstance(self._value, int) else self._value
        return {"value": value, "unit": self.unit_str, "label": self.label, "description": self.description}

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
        shown = f"{self.value} {self.unit_str}".rstrip()
        described = f"\n{self.description}" if self.description else ""
        return (f"{self.label} = " if self.label else "") + shown + described

    def __repr__(self) -> str:
        return f"Datum({self.value!r}, {self.unit!r}, {self.label!r}, {self.description!r})"
