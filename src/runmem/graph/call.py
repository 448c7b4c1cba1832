"""A call of a task, as it goes from the program to a submitter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runmem.graph.task import TaskFunction

__all__ = ["Execution", "Version", "FileUse", "TaskCall", "Submitter"]


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
    state
        The submitter's own.
    """

    task_id: int
    name: str
    outputs: int
    state: Any = None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a datum: output number `output` of an execution."""

    execution: Execution
    output: int


@dataclass(frozen=True, slots=True)
class FileUse:
    """What must be done with a file before the task runs, also when it runs again.

    Attributes
    ----------
    path : str
        Where the task finds (or writes) its version of the file.
    copy_from : str or None
        Version to start from; None: the file must not exist when the task starts.
    """

    path: str
    copy_from: str | None


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
    writes : tuple of int or str
        Positions or names of the object parameters whose new version is an output, after the returned ones.
    after : tuple of Execution
        What must be done first, without its value being needed (files).
    files : tuple of FileUse
    """

    execution: Execution
    task: TaskFunction
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    returns: int
    writes: tuple[int | str, ...] = ()
    after: tuple[Execution, ...] = ()
    files: tuple[FileUse, ...] = field(default=())

    def parameter_of(self, place: int | str) -> str:
        """Return the name of the parameter at a position or keyword, for messages."""
        return self.task.signature.parameter_at(place)


class Submitter(Protocol):
    """Where calls go. Implemented by `runmem.execution`; tests of the graph use a small one of their own."""

    def submit(self, call: TaskCall, resolve: Callable[[Any], Version | None] | None) -> None:
        """Take a call; return at once. Arguments are read before this returns: the program may change them after.

        `resolve` gives the version of a tracked object found inside the arguments; None: no object is tracked.
        """

    def fetch(self, versions: Sequence[Version]) -> list[Any]:
        """Return the values, waiting for them; raise the exception of the first task that failed."""

    def wait(self, executions: Sequence[Execution] | None, raises: bool = True) -> None:
        """Wait until these (or None: all) have ended.

        With `raises`, raise the exception of the first of them that failed; with None, of one that nobody has seen.
        """

    def has_ended(self, execution: Execution) -> bool:
        """Tell whether an execution has ended, well or badly, without waiting; also true if it cannot end any more."""
