"""The memory that a control reports of itself."""

from __future__ import annotations

from dataclasses import dataclass

from runmem.reading import JsonObject

__all__ = ["Truth"]


@dataclass(frozen=True, slots=True)
class Truth:
    """The true peak memory of a control, in bytes.

    Attributes
    ----------
    pattern : str
    process_bytes : int
        Peak of the largest process.
    tree_bytes : int
        Peak of all processes together; pages that they share count once.
    cache_bytes : int
        Page cache that it filled, included in neither of these.
    """

    pattern: str
    process_bytes: int
    tree_bytes: int
    cache_bytes: int

    @classmethod
    def from_json(cls, line: JsonObject) -> Truth:
        """Return the truth that the control wrote."""
        return cls(str(line["pattern"]), *(int(line[f"{name}_bytes"]) for name in ("process", "tree", "cache")))

    def of(self, scope: str) -> int:
        """Return the true value for a column of scope ``process`` or ``tree``."""
        return self.process_bytes if scope == "process" else self.tree_bytes
