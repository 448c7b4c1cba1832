"""Results that are lists and the like, on their way through Dask.

Dask serialises the elements of a list, tuple, set or dictionary one by one, each as a message of its own: a list of a
million numbers takes half a minute. Inside a type of ours it travels as one pickle, arrays beside it.
"""

from __future__ import annotations

from typing import Any

from dask.sizeof import sizeof

__all__ = ["Carried", "carried", "uncarried"]

_TAKEN_APART = (list, tuple, set, frozenset, dict)


class Carried:
    """Holds a result."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return Carried, (self.value,)

    def __sizeof__(self) -> int:
        """Return the size of the value, by which Dask keeps account of a worker's memory."""
        return int(sizeof(self.value))


def carried(value: Any) -> Any:
    """Return `value` as Dask should see it."""
    return Carried(value) if type(value) in _TAKEN_APART else value


def uncarried(value: Any) -> Any:
    """Return what `carried` was given."""
    return value.value if type(value) is Carried else value
