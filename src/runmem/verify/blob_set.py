"""A set of blobs."""

from __future__ import annotations

from collections.abc import Iterable

from runmem.reading import JsonObject
from runmem.verify.blob import Blob
from runmem.verify.errors import VerifyKeyError, VerifyTypeError
from runmem.verify.named_items import NamedItems

__all__ = ["BlobSet"]


class BlobSet(NamedItems[Blob]):
    """Blobs by their identifiers. They are found by their names too; of several with one name the last.

    Parameters
    ----------
    blobs : iterable of Blob, optional
    """

    def __init__(self, blobs: Iterable[Blob] | None = None) -> None:
        super().__init__()
        for blob in blobs or ():
            self.insert(blob)

    def __getitem__(self, key: str) -> Blob:
        if key in self._items:
            return self._items[key]
        for blob in reversed(self._items.values()):
            if blob.name == key:
                return blob
        raise KeyError(key)

    def __setitem__(self, key: str, blob: Blob) -> None:
        if not isinstance(blob, Blob):
            raise VerifyTypeError(f"cannot store {blob!r} as {key!r}: give a Blob")
        if key != blob.identifier:
            raise VerifyKeyError(f"cannot store blob {blob.name!r} as {key!r}: its identifier is {blob.identifier}")
        self._items[key] = blob

    def __delitem__(self, key: str) -> None:
        del self._items[self[key].identifier]

    def insert(self, blob: Blob) -> None:
        """Add a blob; raises `VerifyTypeError` for another object."""
        self[getattr(blob, "identifier", "?")] = blob

    @property
    def json(self) -> list[JsonObject]:
        """The blobs as ``blobs`` of a Job."""
        return [blob.json for blob in self.values()]

    @classmethod
    def deserialize(cls, blobs: Iterable[JsonObject] | None = None) -> BlobSet:
        """Return the blobs of documents from `json`."""
        return cls(Blob.deserialize(**document) for document in blobs or ())

    def __str__(self) -> str:
        return f"<BlobSet: {f'{len(self)} Blob' + 's' * (len(self) != 1) if self else 'empty'}>"
