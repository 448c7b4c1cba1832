"""Values with a unit: those of astropy if it is installed, otherwise with units of memory and time only."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from runmem.errors import SettingError
from runmem.units import format_bytes

__all__ = [
    "Quantity", "UnitError", "check_unit", "converted", "latex_of", "parts_of", "quantity", "same_kind", "text_of",
]  # fmt: skip

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_TIMES_S = {
    "s": 1, "second": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60, "minute": 60, "h": 3600, "hr": 3600,
    "hour": 3600, "d": 86400, "day": 86400,
}  # fmt: skip
# Name in astropy to kind and size.
_UNITS: dict[str, tuple[str, float]] = {
    "": ("number", 1), "%": ("number", 0.01), "percent": ("number", 0.01),
    **{f"{prefix}{unit}": ("memory", size) for prefix, size in {"": 1, **_DECIMAL, **_BINARY}.items()
       for unit in ("byte", "B")},
    **{name: ("time", size) for name, size in _TIMES_S.items()},
}  # fmt: skip
_MEANT = {
    "bytes": "byte", "Bytes": "byte", "KB": "kB", "Kbyte": "kbyte", "kib": "KiB",
    "mib": "MiB", "gib": "GiB", "M": "MiB", "G": "GiB", "K": "KiB", "sec": "s", "seconds": "s",
}  # fmt: skip


class UnitError(SettingError, TypeError):
    """A unit that does not exist, or two that cannot be converted into each other.

    The second is also an ``astropy.units.UnitConversionError`` where astropy is loaded.
    """


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number and its unit, a substitute for astropy's class of this name without astropy.

    Attributes
    ----------
    value : float or list of float
    unit : str
        Name of a unit in astropy.

    Notes
    -----
    Assumption: the unit is one of memory (``byte`` or ``B`` with a prefix: ``MB`` is 10**6 byte, ``MiB`` 2**20), of
    time, or none. Limitation: any other unit can only be compared with itself.
    """

    value: object
    unit: str = ""

    def to(self, unit: str) -> Quantity:
        """Return the quantity in another unit; raises `UnitError` for a unit of another kind."""
        return Quantity(converted(self.value, self.unit, str(unit)), str(unit))

    def to_value(self, unit: str) -> Any:
        """Return the value in another unit; raises `UnitError` for a unit of another kind."""
        return self.to(unit).value

    def __str__(self) -> str:
        return f"{self.value} {self.unit}".rstrip()

    def __eq__(self, other: object) -> bool:
        try:
            return self._compared(other, operator.eq)
        except (TypeError, ValueError, AttributeError):
            return False

    def __lt__(self, other: object) -> bool:
        return self._compared(other, operator.lt)

    def __le__(self, other: object) -> bool:
        return self._compared(other, operator.le)

    def __gt__(self, other: object) -> bool:
        return self._compared(other, operator.gt)

    def __ge__(self, other: object) -> bool:
        return self._compared(other, operator.ge)

    def _compared(self, other: object, compare: Callable[[Any, Any], object]) -> bool:
        value, unit = parts_of(other)
        return bool(compare(self.value, converted(value, unit, self.unit)))


@cache
def astropy_units() -> Any:
    """Import ``astropy.units`` on first use (0.2 s); return None if astropy is not installed."""
    try:
        return import_module("astropy.units")
    except ImportError:
        return None


def quantity(value: object, unit: str) -> Any:
    """Return an ``astropy.units.Quantity``, or a `Quantity` without astropy."""
    units = astropy_units()
    return Quantity(value, unit) if units is None else units.Quantity(value, unit)


def parts_of(given: Any) -> tuple[Any, str]:
    """Return the value and the name of the unit of a quantity (of astropy or runmem) or of a number.

    A value of numpy becomes a number or a list of numbers.
    """
    if not hasattr(given, "unit"):
        return given, ""
    value = given.value
    return (value.tolist() if hasattr(value, "tolist") else value), str(given.unit)


def check_unit(unit: object) -> str:
    """Return the name of a unit if astropy has it.

    Raises
    ------
    UnitError
        If it does not have it; without astropy only for some common mistakes.
    """
    name = str(unit)
    if name in _UNITS:
        return name
    meant = f": write {_MEANT[name]!r}" if name in _MEANT else ""
    if not meant and (units := astropy_units()) is not None:
        try:
            units.Unit(name)
        except (ValueError, TypeError):
            meant = ": memory is in byte, kB, MB, GB (powers of 1,000) or KiB, MiB, GiB (of 1,024), time in s, ms, h"
        else:
            return name
    if meant or not isinstance(unit, str):
        raise UnitError(f"{name!r} is not a unit of astropy and lsst.verify{meant}")
    return name


def same_kind(first: str, second: str) -> bool:
    """Return True if a value can be converted from one unit into the other."""
    try:
        converted(1.0, first, second)
    except UnitError:
        return False
    return True


def converted(value: Any, unit: str, to: str) -> Any:
    """Return `value`, a number or a list of numbers, in another unit.

    Raises
    ------
    UnitError
        If the units are of different kinds, such as ``byte`` and ``s``.
    """
    if unit == to:
        return value
    factor = _factor(unit, to)
    return [item * factor for item in value] if isinstance(value, (list, tuple)) else value * factor


def _factor(unit: str, to: str) -> float:
    given, wanted = _UNITS.get(unit), _UNITS.get(to)
    if given and wanted:
        if given[0] == wanted[0]:
            return given[1] / wanted[1]
    elif (units := astropy_units()) is not None:
        try:
            return float(units.Unit(unit).to(units.Unit(to)))
        except (ValueError, TypeError):  # also astropy's UnitConversionError
            pass
    raise conversion_error(f"a value in {unit or 'no unit'} cannot be compared with one in {to or 'no unit'}")


def conversion_error(message: str) -> UnitError:
    """Return the error of units that cannot be converted, which is also astropy's where that is loaded."""
    units = sys.modules.get("astropy.units")
    return UnitError(message) if units is None else _astropys_too(units.UnitConversionError)(message)


@cache
def _astropys_too(error: type[Exception]) -> type[UnitError]:
    def reduced(self: UnitError) -> object:  # a class that is made here cannot be pickled by name
        return conversion_error, (str(self),)

    return type(UnitError.__name__, (UnitError, error), {"__module__": __name__, "__reduce__": reduced})


def text_of(value: float | None, unit: str, digits: str = ".15g") -> str:
    """Format a value with its unit, such as ``327745536 byte (312.6 MiB)``; ``-`` for None."""
    if value is None:
        return "-"
    is_memory = unit in ("byte", "B")
    text = f"{value:{'.15g' if is_memory else digits}} {unit}".rstrip()
    whole = is_memory and math.isfinite(value) and value >= 1024
    return f"{text} ({format_bytes(value)})" if whole else text


def latex_of(value: object, unit: str, digits: str = "g") -> str:
    """Format a value with its unit in LaTeX, for notebooks; without astropy the unit is as it is written."""
    units = astropy_units()
    shown = unit if units is None or not unit else units.Unit(unit).to_string("latex_inline")
    return f"{value:{digits}} {shown}".rstrip()
