"""What measurements and blobs have in common: an identifier, which a Job tells them apart by."""

from __future__ import annotations

import uuid

from runmem.reading import JsonObject

__all__ = ["Identified"]


class Identified:
    """A thing with an identifier that is made when it is first asked for: making it costs as much as all the rest."""

    _identifier: str | None = None

    @property
    def identifier(self) -> str:
        """What tells this from others of its kind: 32 hexadecimal digits."""
        if self._identifier is None:
            self._identifier = uuid.uuid4().hex
        return self._identifier

    def __getstate__(self) -> JsonObject:
        return vars(self) | {"_identifier": self.identifier}  # a copy is the same thing
