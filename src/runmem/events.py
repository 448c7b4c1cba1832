"""What happens in a run, one frozen dataclass an event, and the record of a task.

Times are seconds since the epoch, memory is in bytes; both units stand in the fields' names. A value that could not be
had is None, and `reason` says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "ClusterStarted",
    "TaskRecord",
    "TaskSubmitted",
    "TaskStarted",
    "TaskEnded",
    "TaskMeasured",
    "TasksRunning",
    "TaskWaitedFor",
    "NodeSampled",
    "ProfileReported",
    "LogLines",
    "RecordLines",
    "DataLost",
    "RunEnded",
]


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The measurement of one attempt at one task.

    Attributes
    ----------
    task_id : int
        Number of the call in the order of the program, from 1.
    module, name : str
        Where the function is defined (the program's file name without its suffix for the program itself) and its
        qualified name; `target` joins them.
    file : str
        Source file of the function; from the program's folder on, which ``run.json`` names, if it lies there.
    node, pid, thread : str, int, int
        Host name, process id of the worker, the system's number of the thread that ran the task.
    attempt : int
        1 for the first execution; higher when the task was run again.
    start_s, end_s, cpu_s : float or None
        Seconds since the epoch; processor seconds that the thread of the task used.
    base_bytes, peak_bytes, end_bytes : int or None
        Resident set size of the worker process when the task started, its highest value inside the task's window, and
        when it ended.
    method : str or None
        How `peak_bytes` was obtained: ``hwm`` (high-water mark of the kernel, exact) or ``sampled`` (largest of the
        readings taken, a lower bound).
    shared : bool
        Whether another task overlapped this one in the same process; the peak is then an upper bound.
    status : str
        ``finished``, ``failed`` (raised), ``killed`` (the process died), ``cancelled`` (the run ended before the task
        did), or ``running`` (no end is known).
    exception : str or None
        Type of the exception of a failed task.
    last_bytes : int or None
        For a killed or cancelled task: the last resident set size that was read before its end.
    limit_bytes : int or None
        Memory limit of the worker process.
    lifetime_peak_bytes : int or None
        Highest resident set size of the process since it started, of all its tasks.
    reason : str or None
        Why the task was killed, or why a value is missing.
    data_id : str or None
        What the call worked on, where its task was made for that: the data id of a quantum.
    increment_bytes : int or None
        The most that the task itself added to what the process held: peak less base, without what the process held for
        other tasks and what came and went of that meanwhile.
    increment_unclear : str or None
        Why the increment may be more than 1 MiB off; None where it is not.
    extra : dict or None
        What probes of the user have measured: name to number, text, True, False or None. None where there are no such.
    stack : str or None
        For a task that was ended because its time was up: where it was, one line a frame, the innermost last.
    held_bytes : int or None
        How much of the peak was held for other tasks: results, and inputs that are not this call's. Counts what is at
        least 64 KiB, as large as Dask says it is; None where that is not known.
    """

    task_id: int
    module: str
    name: str
    file: str
    node: str
    pid: int
    thread: int
    start_s: float
    attempt: int = 1
    end_s: float | None = None
    cpu_s: float | None = None
    base_bytes: int | None = None
    peak_bytes: int | None = None
    end_bytes: int | None = None
    method: str | None = None
    shared: bool = False
    status: str = "running"
    exception: str | None = None
    last_bytes: int | None = None
    limit_bytes: int | None = None
    lifetime_peak_bytes: int | None = None
    reason: str | None = None
    data_id: str | None = None
    increment_bytes: int | None = None
    increment_unclear: str | None = None
    held_bytes: int | None = None
    stack: str | None = None
    extra: dict[str, int | float | str | bool | None] | None = field(default=None, hash=False)

    @property
    def target(self) -> str:
        """Name by which a metric selects the task, such as ``wordcount.count_words``."""
        return f"{self.module}.{self.name}"

    @property
    def elapsed_s(self) -> float | None:
        """Wall time of the task."""
        return None if self.end_s is None else self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class ClusterStarted:
    """Workers are ready; `dashboard` is the address of the Dask dashboard, None where there is none."""

    dashboard: str | None
    workers: int


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """The program called a task."""

    task_id: int
    name: str


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker began a task; `record` has no end yet."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class TasksRunning:
    """So many tasks have started and not ended, as far as is known (only where memory is measured)."""

    count: int


@dataclass(frozen=True, slots=True)
class TaskWaitedFor:
    """A task runs on while all else has ended, or needs it; told once a task, after a minute.

    `running_s`, `node` and `pid` are None where memory is not measured.
    """

    task_id: int
    name: str
    running_s: float | None = None
    node: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A call ended on the cluster, whether or not memory is measured: "finished", "failed" or "cancelled"."""

    task_id: int
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class TaskMeasured:
    """The measurement of an attempt that ended, or that was killed, reached the master."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class NodeSampled:
    """The sampler of a node read its memory."""

    node: str
    time_s: float
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ProfileReported:
    """A `@profile` report came from a worker."""

    node: str
    pid: int
    task_id: int | None
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class LogLines:
    """What tasks have logged on a node came in: JSON lines with the attributes of `logging.LogRecord`."""

    node: str
    lines: bytes


@dataclass(frozen=True, slots=True)
class RecordLines:
    """Records of tasks that ended, as lines of ``tasks.jsonl``."""

    lines: bytes
    count: int


@dataclass(frozen=True, slots=True)
class DataLost:
    """Measurements were lost: where, and what is known of how many and why."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """All is collected, and nothing more will come; `exit_code` is that of the program, None where it is not known."""

    exit_code: int | None
