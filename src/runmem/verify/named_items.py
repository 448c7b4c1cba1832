"""The base of mappings from names to items."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

__all__ = ["NamedItems"]

_Item = TypeVar("_Item")


class NamedItems(MutableMapping[str, _Item]):
    """A mapping from names to items; subclasses check the items in `__setitem__`."""

    def __init__(self) -> None:
        self._items: dict[str, _Item] = {}

    def __getitem__(self, key: str) -> _Item:
        return self._items[key]

    def __delitem__(self, key: str) -> None:
        del self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
