"""Names of packages, metrics and specifications: ``package``, ``package.metric``, ``package.metric.spec``."""

from __future__ import annotations

import re

from runmem.errors import SettingError
from runmem.verify.errors import VerifyTypeError

__all__ = ["Name", "checked_part"]

_PART = re.compile(r"[^\s.]+")
_LEVELS = ("package", "metric", "specification")


class Name(str):
    """A string of up to three parts, joined by dots. A relative name lacks its first parts.

    Parameters
    ----------
    package : str or Name, optional
        A package, or the full name of a package, metric or specification.
    metric : str or Name, optional
        ``metric`` or ``package.metric``.
    spec : str or Name, optional
        ``specification``, ``metric.specification`` or ``package.metric.specification``.

    Raises
    ------
    VerifyTypeError
        (a `ValueError` and a `TypeError`) For too many parts, an empty part, a gap between parts, or contradictory
        arguments.

    Notes
    -----
    A name equals a text with the same parts, but two names are equal only if their parts have the same meaning:
    ``Name(metric="Peak")`` differs from ``Name("Peak")``, which names a package. ``name in other`` is True for a
    metric in its package, and for a specification in its metric and package.
    """

    __slots__ = ("_first",)
    _first: int  # level of the first part: 0 for the package, 1 for the metric, 2 for the specification

    def __new__(cls, package: str | None = None, metric: str | None = None, spec: str | None = None) -> Name:
        parts: list[str | None] = [None, None, None]
        for level, given in enumerate((package, metric, spec)):
            if given is not None:
                _add(parts, given, level)
        known = [level for level, part in enumerate(parts) if part is not None]
        if not known:
            raise VerifyTypeError("'' is not a name: give a package, a metric or a specification")
        first, last = known[0], known[-1]
        if len(known) != last - first + 1:
            raise VerifyTypeError(
                f"the specification {parts[2]!r} of package {parts[0]!r} has no metric: write it in full"
            )
        found = super().__new__(cls, ".".join(part for part in parts if part is not None))
        found._first = first
        return found

    def __getnewargs__(self) -> tuple[str | None, str | None, str | None]:  # type: ignore[override]
        return self.package, self.metric, self.spec

    # -- parts --

    @property
    def parts(self) -> tuple[str, ...]:
        """The one, two or three parts."""
        return tuple(self.split("."))

    def _part(self, level: int) -> str | None:
        parts, at = self.split("."), level - self._first
        return parts[at] if 0 <= at < len(parts) else None

    @property
    def package(self) -> str | None:
        """The package; None in a relative name."""
        return self._part(0)

    @property
    def metric(self) -> str | None:
        """The metric; None in the name of a package and of a specification alone."""
        return self._part(1)

    @property
    def spec(self) -> str | None:
        """The specification; None in the name of a package or a metric."""
        return self._part(2)

    @property
    def metric_name(self) -> Name:
        """``package.metric`` of the name of a metric or of a specification.

        Raises
        ------
        VerifyTypeError
            If the name has no metric.
        """
        if self.metric is None:
            raise VerifyTypeError(f"{self!r} names no metric")
        return Name(self.package, self.metric)

    @property
    def fqn(self) -> str:
        """The full name as a text; raises `AttributeError` for a relative name."""
        if not self.is_fq:
            raise AttributeError(f"{self!r} is not a full name: it has no {_LEVELS[self._first - 1]}")
        return str(self)

    @property
    def relative_name(self) -> str:
        """``metric.specification``; raises `AttributeError` for other names than those of specifications."""
        if not self.has_relative:
            raise AttributeError(f"{self!r} does not name a specification with its metric")
        return f"{self.metric}.{self.spec}"

    # -- kinds --

    @property
    def has_package(self) -> bool:
        """Whether the package is known."""
        return self.package is not None

    @property
    def has_metric(self) -> bool:
        """Whether it has the name of a metric."""
        return self.metric is not None

    @property
    def has_spec(self) -> bool:
        """Whether it has the name of a specification."""
        return self.spec is not None

    @property
    def has_relative(self) -> bool:
        """Whether it has the names of a metric and of a specification."""
        return self.has_metric and self.has_spec

    @property
    def is_package(self) -> bool:
        """Whether it names a package."""
        return not self.has_metric and not self.has_spec

    @property
    def is_metric(self) -> bool:
        """Whether it names a metric."""
        return self.has_metric and not self.has_spec

    @property
    def is_spec(self) -> bool:
        """Whether it names a specification."""
        return self.has_spec

    @property
    def is_fq(self) -> bool:
        """Whether it is a full name, which begins with the package."""
        return self._first == 0

    @property
    def is_relative(self) -> bool:
        """Whether it names a specification with its metric and without the package."""
        return self.has_relative and not self.has_package

    # -- comparison --

    def __contains__(self, name: object) -> bool:
        """Return True for a metric of this package, or a specification of this package or metric."""
        if not isinstance(name, Name):
            try:
                name = Name(str(name))
            except VerifyTypeError:
                return False
        if self.is_package:
            return not name.is_package and self.package == name.package
        return self.is_metric and name.is_spec and (self.package, self.metric) == (name.package, name.metric)

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True and (not isinstance(other, Name) or self._first == other._first)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        if self.is_fq:
            return f"Name({', '.join(map(repr, self.parts))})"
        given = {"metric": self.metric, "spec": self.spec}
        return f"Name({', '.join(f'{key}={part!r}' for key, part in given.items() if part is not None)})"


def checked_part(part: str, value: object, place: str = "") -> str:
    """Return `value` if it is a valid name of a package or a metric.

    Parameters
    ----------
    part : str
        ``package`` or ``metric``.
    place : str
        Beginning of the message, such as ``connections.package is ``.

    Raises
    ------
    SettingError
        (a `ValueError`) If it is not a text, is empty, or contains a dot or white space.
    """
    if not isinstance(value, str) or not value:
        raise SettingError(f"{place}{value!r}: the metric needs a {part} name")
    if not _PART.fullmatch(value):
        what = "a dot" if "." in value else "white space"
        raise SettingError(f"{place}{value!r}: a {part} name may not contain {what}")
    return value


def _add(parts: list[str | None], given: str, level: int) -> None:
    """Add the parts of a name that ends at a level, or for a package begins there; known parts may be repeated."""
    if isinstance(given, Name):
        own = [given.package, given.metric, given.spec]
        if level and own[level] is None:
            raise VerifyTypeError(f"{given!r} is not the name of a {_LEVELS[level]}")
    else:
        words = str(given).split(".")
        begin = level + 1 - len(words) if level else 0
        if not all(map(_PART.fullmatch, words)) or begin < 0 or len(words) > 3:
            form = ("package.metric.specification", "package.metric", "package.metric.specification")[level]
            is_spec = level == 1 and len(words) == 3
            what = "the name of a specification, not of a metric" if is_spec else "not a name"
            raise VerifyTypeError(f"{str(given)!r} is {what}: write {form}, without spaces")
        own = [*[None] * begin, *words, *[None] * 3][:3]
    for at, part in enumerate(own):
        if part is not None and parts[at] not in (None, part):
            raise VerifyTypeError(
                f"the name {str(given)!r} contradicts {'.'.join(part for part in parts if part is not None)!r}"
            )
        parts[at] = parts[at] if part is None else part
