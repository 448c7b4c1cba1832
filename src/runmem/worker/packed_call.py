"""What travels to a worker of a bundle of calls, and back of one that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from runmem.errors import RunmemError
from runmem.graph.call import FileUse, Slot
from runmem.graph.isolation import Isolation
from runmem.serialization.inputs import PackedArguments
from runmem.worker.log_levels import LogLevels

__all__ = ["BundleFailed", "Outcome", "PackedCall", "PackedTask"]

Outcome: TypeAlias = tuple[bool, Any]
"""Whether a call ended well, and its result as a worker keeps it, or its `PackedError`."""


class PackedTask(NamedTuple):
    """What calls in a bundle have in common: their task, and the program as they see it.

    Attributes
    ----------
    name : str
    reference : bytes or None
        Pickle of a task that a worker can import.
    number : int or None
        Number of one that it cannot, among the definitions of the program.
    outline : bytes or None
    constants : bytes
        The definitions that the calls need, see `runmem.serialization.snapshot.Snapshot`.
    returns : int
        Number of values that the function returns.
    copied : bool
        Whether the task gets copies also of large blocks of memory that it only reads.
    process : bytes
        See `runmem.worker.process_state.ProcessState`; empty: the task runs in the process as it is.
    log_levels : LogLevels or None
        How the program logged when it made the calls; None: it has set nothing up.
    isolation : Isolation
        How the calls are kept apart from others.
    retries : bool
        Whether the calls that it makes itself are tried again by default.
    """

    name: str
    reference: bytes | None
    number: int | None
    outline: bytes | None = None
    constants: bytes = b""
    returns: int = 1
    copied: bool = False
    process: bytes = b""
    log_levels: LogLevels | None = None
    isolation: Isolation = Isolation()
    retries: bool = False


class PackedCall(NamedTuple):
    """One call in a bundle.

    Attributes
    ----------
    task : int
        Index of the packed task in the bundle.
    arguments : PackedArguments
    sources : list of (slot, position, output)
        Where each input comes from. `slot` is the index of a dependency of the Dask task, or -1 for this bundle;
        `position` the place of the producer in its bundle, or None where it was alone; `output` the number of the
        value among the producer's, or None where it makes one only.
    after : sequence of int
        Places in this bundle of calls that must have ended well, such as those that write a file which this one reads.
    last_read : sequence of int
        Indexes of the inputs that no other call reads, and neither does the program, now or later.
    parent : int
        Number of the call that has made it inside its task; 0: the program has made it.
    depth : int
        Number of calls in which it is nested.
    alone : bool
        Whether it runs alone on its node, see `runmem.worker.node_turns`.
    larger : bool
        Whether its worker may use the memory of the node meanwhile.
    """

    task_id: int
    task: int
    arguments: PackedArguments
    writes: tuple[Slot, ...] = ()
    files: tuple[FileUse, ...] = ()
    sources: Sequence[tuple[int, int | None, int | None]] = ()
    after: Sequence[int] = ()
    last_read: Sequence[int] = ()
    parent: int = 0
    depth: int = 0
    alone: bool = False
    larger: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        length = len(self)
        while self[length - 1] is _DEFAULTS[length - 1]:  # what most calls have not got is not sent
            length -= 1
        return PackedCall, self[:length]


_DEFAULTS: tuple[Any, ...] = (object(), object(), object(), *PackedCall._field_defaults.values())


class BundleFailed(RunmemError):
    """Some calls of a bundle raised. It brings the outcome of each to the master.

    Also where the bundle is a single call: Dask would change the exception on its way.
    """

    def __init__(self, key: str, outcomes: list[Outcome]) -> None:
        super().__init__(key, outcomes)
        self.key = key
        self.outcomes = outcomes

    def __str__(self) -> str:
        return f"some calls of the bundle {self.key} raised"
