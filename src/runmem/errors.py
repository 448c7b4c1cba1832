"""Every error that runmem raises itself derives from `RunmemError`."""

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
    "TaskKilledError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "COMPSsException",
]


class RunmemError(Exception):
    """Base of all errors of runmem: says what happened with which values, then what to do next.

    Attributes
    ----------
    exit_code : int
        What the command line exits with when the error reaches it.
    """

    exit_code = 1


class SettingError(RunmemError, ValueError):
    """An option, an environment variable or a configuration value that cannot be used."""

    exit_code = 2


class TaskDeclarationError(RunmemError, TypeError):
    """A `@task` whose keywords do not fit the function's signature. Raised at decoration."""


class TaskWarning(UserWarning):
    """A `@task` that does something else than it seems to: told once, when the task is declared."""


class ArgumentError(RunmemError, TypeError):
    """An argument of a task call that cannot be sent to a worker. Raised at the call."""


class COMPSsException(Exception):
    """Raised by a task to end its group: the group's other tasks are cancelled, and the end of the group raises it.

    The name is that of PyCOMPSs, whose programs catch it.
    """


class CommandError(RunmemError):
    """A command of a task that cannot be started, or failed. Raised where the program waits for the task."""


class CommandFailedError(CommandError, COMPSsException):
    """A command of a task that ended with an exit value that makes the task fail; it ends the task's group too."""


class FilePlacementError(RunmemError):
    """A file that a task wrote and that cannot be brought into its place. Raised where the program waits for it."""


class ClusterError(RunmemError):
    """A cluster that cannot be reached or cannot run this program."""

    exit_code = 2


class ResultError(RunmemError):
    """A result that cannot be brought from a worker to the program."""


class TaskKilledError(RunmemError):
    """A task whose worker process died while it ran, as often as the cluster was willing to try.

    Parameters
    ----------
    name : str
        The task.
    task_id : int
        Number of the call.

    Attributes
    ----------
    cause, node, pid
        Why its process died, where that ran, and its number, as far as they are known.
    """

    cause: str | None = None
    node: str | None = None
    pid: int | None = None

    def __init__(self, name: str, task_id: int) -> None:
        super().__init__(f"task {name} (call {task_id}): its worker process died each time it was tried")
        self.name = name
        self.root_task_id = task_id
        self.task_id: int | None = task_id  # None once the message tells what was measured


class TaskCancelledError(RunmemError):
    """A task call that was cancelled before it began, or that needs the result of one.

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
    values : tuple
        What stands for its returned values; empty: None for each.
    """

    def __init__(self, name: str, task_id: int, what: str = "was cancelled before it began") -> None:
        super().__init__(f"task {name} (call {task_id}) {what}, and the calls that need its results were cancelled")
        self.name = name
        self.root_task_id = task_id
        self.task_id = task_id
        self.has_run = False
        self.values: tuple[object, ...] = ()


class TaskTimeoutError(RunmemError, TimeoutError):
    """A task that was ended because its time was up.

    Attributes
    ----------
    name : str
        The task.
    task_id : int
        Number of the call.
    limit_s : float
        Seconds that it could take.
    stack : str or None
        Where it was then, one line a frame, the innermost last; None where that could not be had.
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
