"""The named results of a task's run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

__all__ = ["Struct"]


class Struct(SimpleNamespace):
    """Results by name, such as ``Struct(measurement=m).measurement``."""

    def getDict(self) -> dict[str, Any]:
        """Return the results as a new dictionary."""
        return dict(vars(self))

    def mergeItems(self, struct: Struct, *nameList: str) -> None:
        """Copy results with these names from another Struct; raises `RuntimeError` for an existing name."""
        for name in nameList:
            if hasattr(self, name):
                raise RuntimeError(f"{name!r} is in this Struct already: {self!r}")
            setattr(self, name, getattr(struct, name))

    def copy(self) -> Struct:
        """Return a shallow copy."""
        return Struct(**vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def __bool__(self) -> bool:
        return True
