"""The base of metrics and specifications, which have tags."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Tagged"]


class Tagged:
    """An object with a set of tags."""

    _tags: set[str]

    @property
    def tags(self) -> set[str]:
        """Texts to group by. A single text is set as one tag."""
        return self._tags

    @tags.setter
    def tags(self, given: Iterable[str] | str | None) -> None:
        self._tags = {given} if isinstance(given, str) else set(given or ())
