"""A metric, and the measurement of one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from runmem.units import format_bytes

__all__ = ["Measurement", "Metric"]

_NOT_A_UNIT = {"bytes": "byte", "KB": "kB", "Kbyte": "kbyte", "kib": "KiB", "mib": "MiB", "gib": "GiB"}


def _checked_unit(unit: str) -> None:
    if unit in _NOT_A_UNIT:
        raise ValueError(f"{unit!r} is not a unit's name that lsst.verify can read: write {_NOT_A_UNIT[unit]!r}")


@dataclass(frozen=True)
class Metric:
    """What is measured.

    Attributes
    ----------
    name : str
        ``package.metric``.
    description : str
    unit : str
        Name of a unit as astropy has it, such as ``byte``.
    tags : tuple of str
    reference : dict
        Where the metric is defined: ``doc``, ``page``, ``url``, each a text or None.
    """

    name: str
    description: str = ""
    unit: str = "byte"
    tags: tuple[str, ...] = ()
    reference: dict[str, Any] = field(default_factory=lambda: {"doc": None, "page": None, "url": None})

    def __post_init__(self) -> None:
        _checked_unit(self.unit)

    @property
    def json(self) -> dict[str, Any]:
        """The metric as an entry of ``metrics`` in a Job."""
        return {
            "name": self.name,
            "description": self.description,
            "unit": self.unit,
            "tags": list(self.tags),
            "reference": dict(self.reference),
        }


@dataclass(frozen=True)
class Measurement:
    """The value of one metric.

    Attributes
    ----------
    metric_name : str
        ``package.metric``.
    value : float or None
        In `unit`; None if nothing could be measured, which is not 0.
    unit : str
        Name of a unit as astropy has it, such as ``byte``.
    notes : dict of str to str, float, int or bool
        How the value came about.
    blob_refs : tuple of str
        Identifiers of the Job's blobs that belong to it.
    identifier : str
        32 hexadecimal digits, unique.

    Raises
    ------
    ValueError
        For a unit's name that ``lsst.verify`` refuses, such as ``bytes``.
    """

    metric_name: str
    value: float | None
    unit: str = "byte"
    notes: dict[str, Any] = field(default_factory=dict)
    blob_refs: tuple[str, ...] = ()
    identifier: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        _checked_unit(self.unit)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.metric_name}: -"
        text = f"{self.metric_name}: {self.value:.15g} {self.unit}".rstrip()
        return f"{text} ({format_bytes(self.value)})" if self.unit == "byte" and self.value >= 1024 else text

    @property
    def json(self) -> dict[str, Any]:
        """The measurement as an entry of ``measurements`` in a Job; the notes are kept in the Job's ``meta``."""
        return {
            "metric": self.metric_name,
            "identifier": self.identifier,
            "value": None if self.value is None else float(self.value),
            "unit": self.unit,
            "blob_refs": list(self.blob_refs),
        }
