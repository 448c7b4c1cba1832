"""The base of measurements and blobs, which have unique identifiers."""

from __future__ import annotations

import uuid

from runmem.reading import JsonObject

__all__ = ["Identified"]


class Identified:
    """An object with an identifier, which is slow to make and so made on first use."""

    _identifier: str | None = None

    @property
    def identifier(self) -> str:
        """The identifier, 32 hexadecimal digits."""
        if self._identifier is None:
            self._identifier = uuid.uuid4().hex
        return self._identifier

    def __getstate__(self) -> JsonObject:
        return vars(self) | {"_identifier": self.identifier}  # a copy keeps the identifier
