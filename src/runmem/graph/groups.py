"""Groups of tasks: waited for, cancelled, or failing together."""

from __future__ import annotations

import weakref
from types import TracebackType

from runmem.errors import COMPSsException
from runmem.graph.call import Execution
from runmem.graph.current import current_program

__all__ = ["Group", "TaskGroup"]


class Group:
    """The calls made while a group was open.

    Parameters
    ----------
    name : str
    parent : Group, optional
        The group around it: its calls are calls of that one, too.

    Attributes
    ----------
    failed : Execution or None
        The first call that raised a `COMPSsException`: the calls that have not ended then are cancelled, and so are
        those that come later.
    """

    def __init__(self, name: str, parent: Group | None = None) -> None:
        self.name = name
        self.failed: Execution | None = None
        self._parent = parent
        self._is_cancelled = False
        self._members: weakref.WeakValueDictionary[int, Execution] = weakref.WeakValueDictionary()

    def add(self, execution: Execution) -> None:
        """Make an execution one of the group."""
        self._members[execution.task_id] = execution
        if self._parent is not None:
            self._parent.add(execution)

    def discard(self, execution: Execution) -> None:
        """Undo `add`, of a call that was refused."""
        self._members.pop(execution.task_id, None)
        if self._parent is not None:
            self._parent.discard(execution)

    @property
    def is_cancelled(self) -> bool:
        """Whether the group, or one around it, was cancelled or has failed: its cancelled calls give None."""
        outer = self._parent is not None and self._parent.is_cancelled
        return self._is_cancelled or self.failed is not None or outer

    def cancel(self) -> list[Execution]:
        """Note that the group is cancelled; return its executions."""
        self._is_cancelled = True
        return self.members()

    def members(self) -> list[Execution]:
        """Return the executions whose results the program still holds, or that have not ended; in order."""
        return [execution for _, execution in sorted(self._members.items())]

    def fail(self, execution: Execution, error: BaseException) -> list[Execution]:
        """Note an error; return the executions that it cancels: those of the innermost group."""
        if not issubclass(type(error), COMPSsException) or self.failed is not None:
            return []
        self.failed = execution
        return [other for other in self.members() if other is not execution]


class TaskGroup:
    """A block in which calls of tasks belong to a group.

    Parameters
    ----------
    group_name : str
    implicit_barrier : bool
        Whether the end of the block waits for the group, and raises what one of its tasks raised.
    """

    def __init__(self, group_name: str, implicit_barrier: bool = True) -> None:
        self._name = group_name
        self._waits = implicit_barrier

    def __enter__(self) -> None:
        program = current_program()
        if program is not None:
            program.open_group(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        program = current_program()
        if program is not None:
            program.close_group(self._name)
            if self._waits and error is None:
                program.barrier_group(self._name)
