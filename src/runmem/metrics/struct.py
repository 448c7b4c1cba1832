"""The named results of a task's run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

__all__ = ["Struct"]


class Struct(SimpleNamespace):
    """Results by name, such as ``Struct(measurement=m).measurement``."""

    def getDict(self) -> dict[str, Any]:
        """Return the results as a dictionary of their own."""
        return dict(vars(self))
