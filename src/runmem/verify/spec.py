"""Specifications: conditions that a measurement must satisfy."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.verify import quantity as quantities
from runmem.verify.datum import Datum
from runmem.verify.errors import VerifyTypeError
from runmem.verify.name import Name
from runmem.verify.tagged import Tagged

__all__ = ["ThresholdSpecification", "is_specification_text"]

_OPERATORS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_CALLED = {
    "<": "less_than", "<=": "at_most", ">": "more_than", ">=": "at_least", "==": "equal_to", "!=": "not_equal_to",
}  # fmt: skip
_LATEX = {"<=": r"\leq", ">=": r"\geq", "==": "=", "!=": r"\neq"}
_TEXT = re.compile(r"\s*(?P<name>[^\s<>=!]+)\s*(?P<operator><=|>=|==|!=|<|>)(?P<threshold>.*)", re.DOTALL)
_BITS = re.compile(r"([kMGTPEm]|[KMGTPE]i)b")  # megabit, mebibit and millibit in astropy, which are rarely intended
_THRESHOLD = re.compile(r"\s*(?P<value>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>.*?)\s*", re.DOTALL)


def is_specification_text(text: str) -> bool:
    """Return True if a text has an operator, and so is a specification and not a file name."""
    return bool(re.search(r"[<>=!]", text))


class ThresholdSpecification(Tagged):
    """A limit for the measurements of a metric.

    Parameters
    ----------
    name : str or Name
        ``package.metric.specification``; without its first parts it is a relative name.
    threshold : quantity
        A finite number with a unit, of astropy or runmem (`Quantity`).
    operator_str : str
        One of ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, with the measurement on the left.
    tags : iterable of str, or str
    metadata_query : mapping
        Entries that a Job's ``meta`` must have for the specification to apply; none by default.

    Raises
    ------
    VerifyTypeError
        (a `ValueError` and a `TypeError`) For an invalid name, an unknown operator, or a threshold that is not a finite
        number with a unit.
    """

    type = "threshold"

    def __init__(
        self,
        name: str,
        threshold: object,
        operator_str: str,
        tags: Iterable[str] | str | None = None,
        metadata_query: JsonObject | None = None,
    ) -> None:
        self._name = Name(spec=name)
        self.operator_str = operator_str
        if not hasattr(threshold, "unit"):
            raise VerifyTypeError(
                f"{self.name}: the threshold {threshold!r} has no unit: give a quantity of astropy or a Quantity"
            )
        value, unit = quantities.parts_of(threshold)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise VerifyTypeError(f"{self.name}: the threshold {value!r} is not a finite number")
        self.value = value
        self.unit = quantities.check_unit(unit)
        self.tags = tags
        self.metadata_query = dict(metadata_query or {})

    @classmethod
    def parse(cls, text: str, package: str | None = None) -> ThresholdSpecification:
        """Parse a specification such as ``demo.CountWordsMemory<500 MiB``.

        Parameters
        ----------
        text : str
            ``package.metric`` or ``package.metric.specification``, an operator, a number, and a unit of astropy.
            ``MiB`` is 2**20 byte and ``MB`` 10**6. Without a name the specification is named after the operator:
            ``less_than``, ``at_most``, ``more_than``, ``at_least``, ``equal_to``, ``not_equal_to``.
        package : str, optional
            Default package.

        Raises
        ------
        SettingError
            If the text does not have this form, or the unit does not exist or is one of bits (``Mb``).
        """
        match = _TEXT.fullmatch(text)
        number = _THRESHOLD.fullmatch(match["threshold"]) if match else None
        if match is None or number is None:
            raise SettingError(
                f"{text!r} is not a specification: write package.metric, one of {', '.join(_OPERATORS)}, a number and "
                'a unit, for example "demo.CountWordsMemory<500 MiB"'
            )
        if _BITS.fullmatch(number["unit"]):
            raise SettingError(
                f"specification {text!r}: in {number['unit']!r} the b is a bit: write "
                f"{number['unit'][:-1].replace('m', 'M')}B (B is a byte), or Mbit where bits are meant"
            )
        parts = match["name"].split(".")
        if len(parts) == 1 and package is not None:
            parts.insert(0, package)
        if len(parts) == 2:
            parts.append(_CALLED[match["operator"]])
        try:
            if len(parts) < 3:
                raise SettingError(f"the name {match['name']!r} has no package: write it in full, such as demo.Peak")
            return cls(".".join(parts), quantities.Quantity(float(number["value"]), number["unit"]), match["operator"])
        except SettingError as error:
            raise SettingError(f"specification {text!r}: {error}") from error

    @property
    def name(self) -> Name:
        """``package.metric.specification``."""
        return self._name

    @property
    def metric_name(self) -> Name:
        """``package.metric``; raises `VerifyTypeError` if the specification's name has no metric."""
        return self.name.metric_name

    @property
    def operator_str(self) -> str:
        """The operator, with the measurement on its left. Setting another text raises `VerifyTypeError`."""
        return self._operator_str

    @operator_str.setter
    def operator_str(self, given: str) -> None:
        try:
            self.convert_operator_str(given)
        except SettingError as error:
            raise VerifyTypeError(f"{self.name}: {error}") from error
        self._operator_str = given

    @property
    def operator(self) -> Callable[[Any, Any], bool]:
        """The function of the operator."""
        return self.convert_operator_str(self._operator_str)

    @staticmethod
    def convert_operator_str(op_str: str) -> Callable[[Any, Any], bool]:
        """Return the function of an operator such as ``<``; raises `SettingError` (a `ValueError`) for another text."""
        if op_str not in _OPERATORS:
            raise SettingError(f"{op_str!r} is not an operator; there are {', '.join(_OPERATORS)}")
        return _OPERATORS[op_str]

    @property
    def threshold(self) -> Any:
        """The limit as an astropy quantity (a `Quantity` without astropy)."""
        return quantities.quantity(self.value, self.unit)

    @property
    def datum(self) -> Datum:
        """The limit as a datum."""
        return Datum(quantities.Quantity(self.value, self.unit), label=str(self.name))

    @property
    def test(self) -> str:
        """The comparison as a text, such as ``< 500 MiB``."""
        return f"{self.operator_str} {self.value:.15g} {self.unit}".rstrip()

    def check(self, quantity: object) -> bool:
        """Return True if a quantity passes.

        Raises
        ------
        UnitError
            If its unit does not convert into that of the threshold.
        """
        value, unit = quantities.parts_of(quantity)
        # In the smaller unit, sizes of memory are integers, and `==` is exact.
        try:
            in_given = quantities.converted(self.value, self.unit, unit)
        except quantities.UnitError as error:
            raise quantities.conversion_error(f"{self.name} {self.test}: {error}") from error
        return bool(self.operator(value, in_given))

    def query_metadata(self, metadata: Mapping[str, Any], arg_driven: bool = False) -> bool:
        """Return True if the specification applies to a Job with these entries in ``meta``.

        Parameters
        ----------
        arg_driven : bool
            Whether `metadata` is what to look for instead: True is returned if the specification asks for all of these
            entries, and maybe for others.
        """
        wanted, present = (metadata, self.metadata_query) if arg_driven else (self.metadata_query, metadata)
        return all(key in present and present[key] == value for key, value in wanted.items())

    @property
    def json(self) -> JsonObject:
        """The specification as an entry of ``specs`` in a Job."""
        return {
            "name": str(self.name),
            "type": self.type,
            self.type: {"value": self.value, "unit": self.unit, "operator": self.operator_str},
            "metadata_query": dict(self.metadata_query),
            "tags": sorted(self.tags),
        }

    @classmethod
    def deserialize(
        cls,
        name: str,
        threshold: JsonObject | None = None,
        tags: Iterable[str] | str | None = None,
        metadata_query: JsonObject | None = None,
        type: str = type,
        metric: str | None = None,
        package: str | None = None,
    ) -> ThresholdSpecification:
        """Return the specification of a document from `json`, or of a definition in a YAML file.

        Raises
        ------
        SettingError
            If the threshold has no value, unit or operator, or the specification is of another type.
        """
        if type != cls.type:
            raise SettingError(f"specification {name!r} is of type {type!r}: only those of type {cls.type!r} are known")
        given = threshold if isinstance(threshold, Mapping) else {}
        missing = [key for key in ("value", "unit", "operator") if given.get(key) is None]
        if missing:
            raise SettingError(f"specification {name!r}: the threshold has no {', no '.join(missing)}")
        if metadata_query is not None and not isinstance(metadata_query, Mapping):
            raise SettingError(f"specification {name!r}: metadata_query is {metadata_query!r}: give names and values")
        limit = quantities.Quantity(given["value"], given["unit"])
        full = Name(package, metric, name)
        return cls(full, limit, given["operator"], tags, metadata_query)

    def __eq__(self, other: object) -> bool:
        """Return True if name, limit (to 9 digits, in any unit), operator, query and tags are equal."""
        if not isinstance(other, ThresholdSpecification) or not quantities.same_kind(other.unit, self.unit):
            return False
        other_value = quantities.converted(other.value, other.unit, self.unit)
        return math.isclose(self.value, other_value) and all(
            getattr(self, key) == getattr(other, key) for key in ("name", "operator_str", "metadata_query", "tags")
        )

    def _repr_latex_(self) -> str:
        """Return the comparison for a notebook."""
        return (
            f"$\\,{_LATEX.get(self.operator_str, self.operator_str)}\\,$ {quantities.latex_of(self.value, self.unit)}"
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.test}"

    def __repr__(self) -> str:
        return f"ThresholdSpecification({self.name!r}, {self.threshold!r}, {self.operator_str!r})"
