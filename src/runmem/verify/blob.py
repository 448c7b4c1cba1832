"""Additional data of measurements."""

from __future__ import annotations

from collections.abc import Mapping

from runmem.reading import JsonObject
from runmem.verify.datum import Datum
from runmem.verify.errors import VerifyKeyError, VerifyTypeError
from runmem.verify.identified import Identified
from runmem.verify.named_items import NamedItems

__all__ = ["Blob"]


class Blob(Identified, NamedItems[Datum]):
    """Named data; several measurements may refer to one blob.

    Parameters
    ----------
    name : str
        Kind of the data. The blob with the name of a metric has the extras of its measurement.
    **datums : Datum

    Raises
    ------
    VerifyTypeError, VerifyKeyError
        (`ValueError`) For a name or a key that is not a text, or a value that is not a Datum.
    """

    def __init__(self, name: str, **datums: Datum) -> None:
        if not isinstance(name, str):
            raise VerifyTypeError(f"the name of a blob is a text, not {name!r}")
        self.name = name
        super().__init__()
        if datums:
            self.update(datums)

    def __setitem__(self, key: str, datum: Datum) -> None:
        if not isinstance(key, str):
            raise VerifyKeyError(f"blob {self.name!r}: the key {key!r} is not a text")
        if not isinstance(datum, Datum):
            raise VerifyTypeError(f"blob {self.name!r}: {key!r} is {datum!r}: give a Datum")
        self._items[key] = datum

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.json == other.json

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, {self._items!r})"

    @property
    def json(self) -> JsonObject:
        """The blob as an entry of ``blobs`` in a Job."""
        data = {key: datum.json for key, datum in self._items.items()}
        return {"identifier": self.identifier, "name": self.name, "data": data}

    @classmethod
    def deserialize(
        cls, identifier: str | None = None, name: str = "", data: Mapping[str, JsonObject] | None = None
    ) -> Blob:
        """Return the blob of a document from `json`."""
        found = cls(name)
        found.update({key: Datum.from_json(document) for key, document in (data or {}).items()})
        found._identifier = identifier
        return found
