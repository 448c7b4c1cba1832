"""Names of packages, metrics and specifications: ``package``, ``package.metric``, ``package.metric.spec``."""

from __future__ import annotations

import re

from runmem.errors import SettingError

__all__ = ["Name", "checked_part"]

_PART = re.compile(r"[^\s.]+")


class Name(str):
    """A string of up to three parts, joined by dots.

    Parameters
    ----------
    package, metric, spec : str, optional
        Each may include the parts before it, as in ``Name(metric="demo.Peak")`` or
        ``Name(package="demo", spec="Peak.design")``. The first may be a full name of any kind.

    Raises
    ------
    SettingError
        (a `ValueError`) For more than three parts, an empty part, or contradictory arguments.
    """

    __slots__ = ()

    def __new__(cls, package: str | None = None, metric: str | None = None, spec: str | None = None) -> Name:
        parts: list[str] = []
        for level, given in ((1, package), (2, metric), (3, spec)):
            if given is not None:
                parts = _joined(parts, str(given).split("."), level)
        if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise SettingError(
                f"{'.'.join(parts)!r} is not a name: write package.metric or package.metric.specification, "
                "without spaces"
            )
        return super().__new__(cls, ".".join(parts))

    @property
    def parts(self) -> tuple[str, ...]:
        """The one, two or three parts."""
        return tuple(self.split("."))

    @property
    def package(self) -> str:
        """The first part."""
        return self.parts[0]

    @property
    def metric(self) -> str | None:
        """The second part; None in the name of a package."""
        return self.parts[1] if len(self.parts) > 1 else None

    @property
    def spec(self) -> str | None:
        """The third part; None in the name of a package or a metric."""
        return self.parts[2] if len(self.parts) > 2 else None

    @property
    def metric_name(self) -> Name:
        """``package.metric`` of the name of a metric or of a specification."""
        return Name(".".join(self.parts[:2]))

    @property
    def is_package(self) -> bool:
        """Whether it names a package."""
        return len(self.parts) == 1

    @property
    def is_metric(self) -> bool:
        """Whether it names a metric."""
        return len(self.parts) == 2

    @property
    def is_spec(self) -> bool:
        """Whether it names a specification."""
        return len(self.parts) == 3

    def belongs_to(self, other: str) -> bool:
        """Return True for a metric of package `other`, or a specification of that package or metric."""
        return self.startswith(f"{other}.")


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


def _joined(known: list[str], given: list[str], level: int) -> list[str]:
    """Return the known parts extended by those of a name of that level, which may repeat known parts."""
    missing = max(level - len(given), 0)
    joined = known[:missing] + given
    if len(joined) < level:
        what = {2: "package", 3: "package or no metric"}[level]
        raise SettingError(f"the name {'.'.join(given)!r} has no {what}: write it in full, such as demo.Peak")
    if joined[: len(known)] != known:
        raise SettingError(f"the name {'.'.join(given)!r} contradicts {'.'.join(known)!r}")
    return joined
