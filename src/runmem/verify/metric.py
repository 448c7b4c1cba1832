"""The definition of a metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.verify import quantity as quantities
from runmem.verify.errors import VerifyTypeError
from runmem.verify.name import Name
from runmem.verify.tagged import Tagged

__all__ = ["Metric", "metric_name"]


def metric_name(given: str) -> Name:
    """Return the name of a metric; raises `VerifyTypeError` for the name of a specification."""
    name = Name(metric=given)
    if not name.is_metric:
        raise VerifyTypeError(f"{str(given)!r} is the name of a specification, not of a metric: write package.metric")
    return name


class Metric(Tagged):
    """The definition of a metric.

    Parameters
    ----------
    name : str or Name
        ``package.metric``; without the package it is a relative name.
    description : str
    unit : str or unit of astropy
        Measurements must have a unit that converts into it. Empty for a plain number.
    tags : iterable of str, or str
        Tags to group metrics by.
    reference_doc, reference_url, reference_page : str, str, int or str, optional
        Document that defines the metric.

    Raises
    ------
    VerifyTypeError
        (a `ValueError` and a `TypeError`) For a name that is not of a metric.
    UnitError
        (a `ValueError` and a `TypeError`) For a unit that astropy does not have.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        unit: object = "byte",
        tags: Iterable[str] | str | None = None,
        reference_doc: str | None = None,
        reference_url: str | None = None,
        reference_page: int | str | None = None,
    ) -> None:
        self.name = name
        self.description = str(description).rstrip("\n")
        self.unit = unit
        self.tags = tags
        self.reference_doc = reference_doc
        self.reference_url = reference_url
        self.reference_page = reference_page

    @property
    def name(self) -> Name:
        """``package.metric``."""
        return self._name

    @name.setter
    def name(self, given: str) -> None:
        self._name = metric_name(given)

    @property
    def unit(self) -> Any:
        """Name of the unit, which equals astropy's unit of this name. Set it to a name or to a unit of astropy."""
        return self._unit

    @unit.setter
    def unit(self, given: object) -> None:
        self._unit = quantities.check_unit(given)

    @property
    def unit_str(self) -> str:
        """Name of the unit."""
        return self._unit

    @unit_str.setter
    def unit_str(self, given: str) -> None:
        self.unit = given

    @property
    def reference(self) -> str:
        """The document that defines the metric, as a text."""
        page = f"p. {self.reference_page}" if self.reference_doc and self.reference_page else None
        return ", ".join(str(part) for part in (self.reference_doc, page, self.reference_url) if part)

    def check_unit(self, quantity: object) -> bool:
        """Return True if a quantity can be converted into the unit of the metric."""
        return quantities.same_kind(quantities.parts_of(quantity)[1], self.unit)

    @property
    def definition(self) -> JsonObject:
        """The definition of the metric in a YAML file."""
        reference = {"doc": self.reference_doc, "page": self.reference_page, "url": self.reference_url}
        return {
            "description": self.description,
            "unit": self.unit,
            "tags": sorted(self.tags),
            "reference": reference,
        }

    @property
    def json(self) -> JsonObject:
        """The metric as an entry of ``metrics`` in a Job."""
        return {"name": str(self.name), **self.definition}

    @classmethod
    def deserialize(
        cls,
        name: str,
        description: str | None = None,
        unit: str | None = None,
        tags: Iterable[str] | str | None = None,
        reference: JsonObject | None = None,
    ) -> Metric:
        """Return the metric of a document from `json`, or of a definition in a YAML file.

        Raises
        ------
        SettingError
            Also for an entry of the reference other than ``doc``, ``page`` and ``url``.
        """
        where = reference or {}
        if not isinstance(where, Mapping) or set(where) - {"doc", "page", "url"}:
            raise SettingError(f"the reference of {name} has other entries than doc, page and url: {where!r}")
        return cls(name, description or "", unit or "", tags, where.get("doc"), where.get("url"), where.get("page"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and self.json == other.json

    def __str__(self) -> str:
        return f"{self.name} ({self.unit or 'dimensionless_unscaled'}): {self.description}"

    def __repr__(self) -> str:
        return f"Metric({str(self.name)!r}, {self.description!r}, {self.unit!r}, {sorted(self.tags)!r})"
