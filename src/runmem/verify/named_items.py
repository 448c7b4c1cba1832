"""The bases of mappings from names to items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from html import escape
from typing import Any, ClassVar, TypeVar

from runmem.reading import JsonObject
from runmem.verify.errors import VerifyKeyError, VerifyTypeError
from runmem.verify.name import Name

__all__ = ["ItemSet", "NamedItems", "html_table"]

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


class ItemSet(NamedItems[_Item]):
    """A mapping whose items have names of their own, which are its keys."""

    _kind: ClassVar[type]
    _advice: ClassVar[str]  # what to give instead of another object
    _called: ClassVar[tuple[str, str]]  # singular and plural

    def __init__(self, items: Iterable[_Item] | None = None) -> None:
        super().__init__()
        for item in items or ():
            self.insert(item)

    @abstractmethod
    def _name_of(self, item: Any) -> Name:
        """Return the name of an item."""

    def insert(self, item: _Item) -> None:
        """Add an item, replacing one with the same name.

        Raises
        ------
        VerifyTypeError
            (a `ValueError` and a `TypeError`) If it is of another type.
        """
        if not isinstance(item, self._kind):
            raise VerifyTypeError(f"{item!r} cannot be added: {self._advice}")
        self[self._name_of(item)] = item

    def __setitem__(self, key: str, item: _Item) -> None:
        if not isinstance(item, self._kind):
            raise VerifyTypeError(f"cannot store {item!r} as {str(key)!r}: {self._advice}")
        name = self._name_of(item)
        if name != key:
            raise VerifyKeyError(f"cannot store {item!r} as {str(key)!r}: its name is {str(name)!r}")
        self._items[name] = item

    def __iadd__(self, other: Mapping[str, _Item]) -> Any:
        self.update(other)
        return self

    @property
    def json(self) -> list[JsonObject]:
        """The items as a list of documents, as in a Job."""
        return [item.json for item in self.values()]  # type: ignore[attr-defined]

    def __str__(self) -> str:
        count = f"{len(self)} {self._called[len(self) != 1]}" if self else "empty"
        return f"<{type(self).__name__}: {count}>"


def html_table(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table in HTML for a notebook."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
