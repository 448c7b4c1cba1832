"""Results that are lists and the like, on their way through Dask.

Dask serialises the elements of a list, tuple, set or dictionary one by one, each as a message of its own: a list of a
million numbers takes half a minute. Inside a type of ours it travels as one pickle, arrays beside it.
"""

from __future__ import annotations

from typing import Any

from dask.sizeof import sizeof

from runmem.memory.held import LEAST_BYTES, held

__all__ = ["Carried", "carried", "uncarried"]

_TAKEN_APART = (list, tuple, set, frozenset, dict)


class Carried:
    """Holds a result, and says that this process does."""

    __slots__ = ("value", "size_bytes", "holding")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.size_bytes = int(sizeof(value))
        self.holding = held().add(self.size_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return Carried, (self.value,)

    def __sizeof__(self) -> int:
        """Return the size of the value, by which Dask keeps account of a worker's memory."""
        return self.size_bytes

    def __del__(self) -> None:
        with held().removing(self.holding):
            self.value = None


def carried(value: Any) -> Any:
    """Return `value` as Dask should see it."""
    large = getattr(value, "nbytes", 0) if type(value).__module__ == "numpy" else 0
    return Carried(value) if type(value) in _TAKEN_APART or large >= LEAST_BYTES else value


def uncarried(value: Any) -> Any:
    """Return what `carried` was given."""
    return value.value if type(value) is Carried else value
