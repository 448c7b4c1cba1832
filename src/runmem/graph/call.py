"""A call of a task, as it goes from the program to a submitter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from runmem.graph.isolation import Isolation

if TYPE_CHECKING:
    from runmem.graph.task import TaskFunction

__all__ = [
    "Execution", "ExecutionState", "FailingGroup", "FileUse", "Origin", "Slot", "Submitter", "TaskCall", "Version",
    "inherit_origin",
]  # fmt: skip

Slot = int | str | tuple[object, ...]
"""Where a datum is in a call: a position, a name, or for an element of a collection one of these, indexes and keys."""


class ExecutionState(Protocol):
    """State of an execution in a submitter; each submitter has a class of its own."""

    @property
    def error(self) -> BaseException | None:
        """The exception with which the execution ended; None: it runs, waits, or ended without one."""

    @property
    def done(self) -> bool:
        """Whether the execution has ended."""

    @property
    def keeps_files(self) -> bool:
        """Whether the execution failed and its files are as it has left them."""

    @property
    def never_ran(self) -> bool:
        """Whether the execution was cancelled, by the program or by the failure of another one."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Origin:
    """Stands for calls that use files, as long as one of them may have to run again.

    That is as long as somebody refers to a result of theirs, or to one that was made from it: Dask makes a result that
    was lost with a worker again, from the beginning if need be.

    Attributes
    ----------
    needs : tuple of Origin
        Those of the calls that came before.
    """

    needs: tuple[Origin, ...] = ()


@dataclass(slots=True, eq=False, weakref_slot=True)
class Execution:
    """The one execution that a call stands for; results stay available as long as somebody refers to it.

    Attributes
    ----------
    task_id : int
        Number of the call in the program, from 1.
    name : str
        The task's name.
    outputs : int
        How many values it makes: those returned, then the new versions of the parameters that it writes.
    state : ExecutionState or None
        The submitter's own; None before the call was submitted.
    origin : Origin or None
        Of the files that it was made from, if any.
    group : Group or None
        The innermost group of tasks that it belongs to.
    is_read : bool
        Whether a call, or the program, has asked for one of its outputs.
    """

    task_id: int
    name: str
    outputs: int
    state: ExecutionState | None = None
    origin: Origin | None = None
    group: FailingGroup | None = None
    is_read: bool = False


class FailingGroup(Protocol):
    """What a submitter needs of a group of tasks; see `runmem.graph.groups.Group`."""

    @property
    def failed(self) -> Execution | None:
        """The first call that raised a `COMPSsException`."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the group, or one around it, was cancelled or has failed: its cancelled calls give None."""

    def fail(self, execution: Execution, error: BaseException) -> list[Execution]:
        """Note an error of an execution; return the executions that it cancels."""


def inherit_origin(execution: Execution, needs: Iterable[Execution]) -> None:
    """Note that an execution is made from what others have made."""
    origins = tuple({id(needed.origin): needed.origin for needed in needs if needed.origin is not None}.values())
    if execution.origin is not None:
        execution.origin.needs = origins
    elif origins:
        execution.origin = origins[0] if len(origins) == 1 else Origin(origins)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a datum: output number `output` of an execution."""

    execution: Execution
    output: int


class FileUse(NamedTuple):
    """What a call does with a file; see `runmem.graph.file_attempt` for what comes of it, also when it runs again.

    Attributes
    ----------
    path : str
        Where the version lies that the task reads or makes.
    writes : bool
        Whether it makes it.
    copy_from : str or None
        For a version that it makes: the one to start from; None: it starts without a file.
    kept : str or None
        Where the version in place, which is read, copied or made, goes to when another one comes there; None: it does
        not lie in place.
    is_folder : bool
        Whether it is a directory, with all that is in it.
    places : dict
        The arguments, or elements of collections, that name the file, and what each of them says.
    """

    path: str
    writes: bool = False
    copy_from: str | None = None
    kept: str | None = None
    places: Mapping[Slot, str] = {}
    is_folder: bool = False

    @property
    def is_made_in_place(self) -> bool:
        """Whether the task makes a version that lies in place."""
        return self.writes and self.copy_from is None and self.kept is not None


@dataclass(frozen=True, slots=True)
class TaskCall:
    """All that a submitter needs to run one call.

    Attributes
    ----------
    execution : Execution
    task : TaskFunction
    args, kwargs
        The arguments. At the top level a datum made by a task stands as its `Version`; deeper inside, futures stand as
        themselves and are resolved when the arguments are packed.
    returns : int
        Number of values that the function returns.
    writes : tuple of Slot
        The objects whose new version is an output, after the returned ones: positions or names of arguments, and places
        of elements of collections.
    after : tuple of Execution
        What must be done first, without its value being needed (files).
    files : tuple of FileUse
    isolation : Isolation
    replaces : frozenset of Version
        Versions that the program cannot reach once the call is made, because the call writes their data.
    """

    execution: Execution
    task: TaskFunction
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    returns: int
    writes: tuple[Slot, ...] = ()
    after: tuple[Execution, ...] = ()
    files: tuple[FileUse, ...] = field(default=())
    isolation: Isolation = Isolation()
    replaces: frozenset[Version] = frozenset()

    def parameter_of(self, place: int | str) -> str:
        """Return the name of the parameter at a position or keyword, for messages."""
        return self.task.signature.parameter_at(place)


class Submitter(Protocol):
    """Runs the calls of a program. Implemented in `runmem.execution`; tests of the graph have a small one of their own.

    Deadlines are moments of `time.monotonic()`; None: no deadline. `TimeoutError` is raised when one passes.
    """

    def submit(self, call: TaskCall, resolve: Callable[[object], Version | None] | None) -> None:
        """Accept a call and return at once. The arguments are read before: the program may change them afterwards.

        `resolve` returns the version of a tracked object found inside the arguments; None: no object is tracked.
        """

    def fetch(self, versions: Sequence[Version], deadline: float | None = None) -> list[Any]:
        """Wait for values and return them; raise the exception of the first task that failed."""

    def wait(self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True) -> None:
        """Wait until these executions (None: all) have ended.

        With `raises`, raise the exception of the first of them that failed; with None, one that nobody has seen.
        """

    def cancel(self, executions: Iterable[Execution] | None = None) -> None:
        """Cancel those of these calls (None: all) that have not ended.

        They end with `TaskCancelledError`, and so do the calls that need their results. The function of a call that
        runs is interrupted, and its end waited for some seconds, unless all calls are cancelled. A fresh process is
        killed, and its call ends with `TaskKilledError`.
        """

    def has_ended(self, execution: Execution) -> bool:
        """Return True if an execution has ended, with or without an error, or can no longer end; never wait."""
