"""What a control took, as it says itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Truth"]


@dataclass(frozen=True, slots=True)
class Truth:
    """The right answers, in bytes.

    Attributes
    ----------
    pattern : str
    process_bytes : int
        Peak of the largest process.
    tree_bytes : int
        Peak of all processes together; pages that they share count once.
    cache_bytes : int
        Page cache that it brought in, which is in neither of these.
    """

    pattern: str
    process_bytes: int
    tree_bytes: int
    cache_bytes: int

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Truth:
        """Return what the control wrote."""
        return cls(str(line["pattern"]), *(int(line[f"{name}_bytes"]) for name in ("process", "tree", "cache")))

    def of(self, scope: str) -> int:
        """Return the right answer for a column of scope ``process`` or ``tree``."""
        return self.process_bytes if scope == "process" else self.tree_bytes
