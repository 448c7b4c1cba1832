"""How a task came to its end with its process: the causes, and the facts noted at that moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import UnionType

__all__ = ["Cause", "Death", "growth_of"]

_MOST = 2**62  # of a number in a record


class Cause(StrEnum):
    """What ended a process, or the task in it."""

    CGROUP_LIMIT = "cgroup limit"
    """The kernel killed it: its control group (container, batch job) was at its memory limit."""
    NODE_MEMORY = "node memory"
    """The kernel killed it: the node had no free memory."""
    NANNY_LIMIT = "nanny limit"
    """Dask's nanny, or runmem if the task has a process of its own, ended it at its share of the memory limit."""
    SLURM_LIMIT = "slurm limit"
    """Slurm ended the job or step for its memory."""
    ADDRESS_SPACE = "address space"
    """A `MemoryError` in a process whose address space is limited (``ulimit -v``)."""
    MEMORY_ERROR = "memory error"
    """A `MemoryError` in a process whose address space is not limited."""
    SIGKILL = "sigkill"
    """Signal 9, and no counter of the kernel shows that it came for memory: a person, or another program."""
    CRASH = "crash"
    """A segmentation fault or another error of compiled code."""
    ABORT = "abort"
    """The process called ``abort``, as C libraries do after an error that they cannot handle."""
    SIGNAL = "signal"
    """Another signal."""
    EXIT = "exit"
    """The task, or a library that it calls, ended the process."""
    TIME_LIMIT = "time limit"
    """The task, one beside it in the same process, or the batch job reached its time limit."""
    NODE_GONE = "node gone"
    """The node, its batch job, or the connection to it was lost."""
    UNKNOWN = "unknown"
    """It is not known."""

    @property
    def is_memory(self) -> bool:
        """Whether too much memory is the cause."""
        return self in _MEMORY


_MEMORY = {
    Cause.CGROUP_LIMIT, Cause.NODE_MEMORY, Cause.NANNY_LIMIT, Cause.SLURM_LIMIT, Cause.ADDRESS_SPACE,
    Cause.MEMORY_ERROR,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process while it ran a task, or a task's `MemoryError`.

    Attributes
    ----------
    cause : Cause
    words : str
        The cause as a sentence without its full stop.
    signal, status : int or None
        Signal that ended the process; its exit status, if it ended by itself.
    limit_bytes : int or None
        The limit that was reached; None if no limit was, or it is not known.
    limit_owner : str or None
        Whose limit it was, and where it is set.
    at_least_bytes : int or None
        A size that the process had, if the cause proves it.
    growth_bytes_per_s : int or None
        Rate at which the process grew before its end, from its last readings; may be negative.
    node_free_bytes : int or None
        Memory that the node had available shortly before.
    beside : str or None
        The other tasks on the node then, with the memory of their processes; empty if there were none.
    missing : str or None
        Why values are None that could be expected.
    """

    cause: Cause
    words: str
    signal: int | None = None
    status: int | None = None
    limit_bytes: int | None = None
    limit_owner: str | None = None
    at_least_bytes: int | None = None
    growth_bytes_per_s: int | None = None
    node_free_bytes: int | None = None
    beside: str | None = None
    missing: str | None = None

    @property
    def is_for_memory(self) -> bool:
        """Whether it came for memory: then the task may need more, or fewer tasks beside it."""
        return self.cause.is_memory

    @classmethod
    def unknown(cls, words: str) -> Death:
        """Return a death of which only a description is known."""
        return cls(Cause.UNKNOWN, words)

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> Death | None:
        """Return the death with these values by name; None if one does not have the type of its field.

        Other names are ignored, and a cause of a later version is unknown here. Earlier versions wrote a description
        as ``cause``.
        """
        known: dict[str, object] = {}
        for name, kinds in _TYPES.items():
            if name in values:
                value = values[name]
                if type(value) not in kinds or (type(value) is int and abs(value) > _MOST):
                    return None
                known[name] = value
        cause = known.pop("cause", None)
        words = known.pop("words", cause)
        if cause is None or words is None:
            return None
        is_known = cause in _CAUSES
        return cls(_CAUSES[str(cause)] if is_known else Cause.UNKNOWN, str(words), **known)  # type: ignore[arg-type]

    @property
    def is_in_range(self) -> bool:
        """Whether all numbers can be computed with."""
        return all(abs(value) <= _MOST for name in _NUMBERS if (value := getattr(self, name)) is not None)


def growth_of(times_s: list[float], sizes_bytes: list[int], window_s: float = 1.0) -> int | None:
    """Return the rate of growth over the last `window_s` seconds of readings, in bytes per second.

    None with fewer than two readings: a rate cannot be known then.
    """
    if len(times_s) < 2:
        return None
    first = next(i for i, time_s in enumerate(times_s) if time_s >= times_s[-1] - window_s - 1e-6)
    first = min(first, len(times_s) - 2)
    elapsed_s = times_s[-1] - times_s[first]
    if not (elapsed_s > 0 and math.isfinite(elapsed_s)):
        return None
    return round((sizes_bytes[-1] - sizes_bytes[first]) / elapsed_s)


_CAUSES = {str(cause): cause for cause in Cause}
_TYPES: dict[str, tuple[type | UnionType, ...]] = {
    field.name: {"int | None": (int, type(None)), "str | None": (str, type(None))}.get(str(field.type), (str, Cause))
    for field in fields(Death)
}
_NUMBERS = [name for name, kinds in _TYPES.items() if int in kinds]
