"""The errors that runmem raises, all derived from `RunmemError`."""

from __future__ import annotations

__all__ = [
    "RunmemError",
    "SettingError",
    "TaskDeclarationError",
    "CommandError",
    "CommandFailedError",
    "TaskWarning",
    "ArgumentError",
    "FilePlacementError",
    "ClusterError",
    "ResultError",
    "ReturnedValuesError",
    "TaskKilledError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "FutureError",
    "FutureAttributeError",
    "FutureGoneError",
    "COMPSsException",
]


class RunmemError(Exception):
    """Base class of all errors of runmem. The message gives the cause with its values, then the remedy.

    Attributes
    ----------
    exit_code : int
        Exit code of the command line if the error reaches it.
    """

    exit_code = 1


class SettingError(RunmemError, ValueError):
    """An option, an environment variable or a configuration value is invalid."""

    exit_code = 2


class TaskDeclarationError(RunmemError, TypeError):
    """The keywords of a `@task` do not match the function's signature. Raised at decoration."""


class TaskWarning(UserWarning):
    """A `@task` does not do what its code suggests. Warned once, when the task is declared."""


class ArgumentError(RunmemError, TypeError):
    """An argument of a task call cannot be sent to a worker. Raised at the call."""


class FutureGoneError(ArgumentError):
    """A future was used after the program had deleted it, or after the end of its run. Raised where that happens."""


class FutureError(RunmemError, TypeError):
    """A future was used as if it were the value that it stands for. Raised where that happens."""


class FutureAttributeError(FutureError, AttributeError):
    """An attribute of a value was read from its future."""


class COMPSsException(Exception):
    """Raised by a task to end its group: the group's other tasks are cancelled, and the end of the group raises it.

    The name is that of PyCOMPSs, whose programs catch it.
    """


class CommandError(RunmemError):
    """A command of a task that cannot be started, or failed. Raised where the program waits for the task."""


class CommandFailedError(CommandError, COMPSsException):
    """A command of a task that ended with an exit value that makes the task fail; it ends the task's group too."""


class FilePlacementError(RunmemError):
    """A file written by a task cannot be moved to its path. Raised where the program waits for the file."""


class ClusterError(RunmemError):
    """A cluster cannot be reached or cannot run this program."""

    exit_code = 2


class ReturnedValuesError(RunmemError, TypeError):
    """A task returned another number of values than it is declared to return."""


class ResultError(RunmemError):
    """A result cannot be transferred from a worker to the program."""


class TaskKilledError(RunmemError):
    """The worker process died during the task, and the task is not tried again.

    Parameters
    ----------
    name : str
        Name of the task.
    task_id : int
        Number of the call.

    Attributes
    ----------
    cause, node, pid
        Why its process died, where that ran, and its number, as far as they are known.
    kind : str or None
        The kind of the cause, such as ``cgroup limit``; see `runmem.deaths.Cause`.
    is_for_memory : bool or None
        Whether it died for lack of memory; None if nothing is known of its death.
    last_bytes : int or None
        Last reading of the memory of its process.
    growth_bytes_per_s : int or None
        How fast the process grew in the second before.
    limit_bytes, limit_owner : int or None, str or None
        The limit that was reached, and whose it is.
    node_free_bytes : int or None
        Memory that the node had available shortly before.
    beside : str or None
        The other tasks on the node then, with the memory of their processes; empty if there were none.
    argument_bytes : dict or None
        Size of each argument that another task made or that is stored by itself, and of the others together.
    missing : str or None
        Why values are None that could be expected.
    tries : int or None
        How often the task has run; None if Dask alone decided about it.
    tried : str or None
        What was done after an earlier death, or why nothing was, as a sentence.
    """

    cause: str | None = None
    node: str | None = None
    pid: int | None = None
    kind: str | None = None
    is_for_memory: bool | None = None
    last_bytes: int | None = None
    growth_bytes_per_s: int | None = None
    limit_bytes: int | None = None
    limit_owner: str | None = None
    node_free_bytes: int | None = None
    beside: str | None = None
    argument_bytes: dict[str, int] | None = None
    missing: str | None = None
    tries: int | None = None
    tried: str | None = None

    def __init__(self, name: str, task_id: int) -> None:
        super().__init__(f"task {name} (call {task_id}): its worker process died each time it was tried")
        self.name = name
        self.root_task_id = task_id
        self.task_id: int | None = task_id  # None once the message includes the measurement


class TaskCancelledError(RunmemError):
    """A task call that was cancelled before it ended, or that needs the result of one.

    Parameters
    ----------
    name : str
        The task that was cancelled.
    task_id : int
        Number of the call that was cancelled.
    what : str
        What happened to it.

    Attributes
    ----------
    has_run : bool
        Whether it ran and failed, and only the calls that need it were cancelled.
    gives_none : bool
        Whether waiting for what was cancelled gives None, and does not raise this.
    values : tuple
        What stands for its returned values then; empty: None for each.
    """

    def __init__(self, name: str, task_id: int, what: str = "was cancelled before it began") -> None:
        super().__init__(f"task {name} (call {task_id}) {what}, and the calls that need its results were cancelled")
        self.name = name
        self.root_task_id = task_id
        self.task_id = task_id
        self.has_run = False
        self.gives_none = False
        self.values: tuple[object, ...] = ()


class TaskTimeoutError(RunmemError, TimeoutError):
    """A task exceeded its time limit and was terminated.

    Attributes
    ----------
    name : str
        Name of the task.
    task_id : int
        Number of the call.
    limit_s : float
        Time limit in seconds.
    stack : str or None
        Stack at that time, one line per frame, innermost last; None if unknown.
    cause, node, pid
        Why it was ended, where it ran, and the number of its process, as far as they are known.
    """

    name = ""
    task_id = 0
    limit_s = 0.0
    stack: str | None = None
    cause: str | None = None
    node: str | None = None
    pid: int | None = None
