"""The events of a run, one frozen dataclass each, and the record of a task.

Times are in seconds since the epoch and memory in bytes, as the field names say. A value that could not be measured is
None, and `reason` gives the cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runmem.deaths import Death

__all__ = [
    "FIRST_NESTED",
    "ClusterStarted",
    "TaskRecord",
    "TaskSubmitted",
    "TaskStarted",
    "TaskEnded",
    "TaskMeasured",
    "TaskKilled",
    "TasksRunning",
    "TaskWaitedFor",
    "NodeSampled",
    "MemoryManaged",
    "ProfileReported",
    "CaptureReceived",
    "LogLines",
    "RecordLines",
    "DataLost",
    "RunEnded",
]


FIRST_NESTED = 1 << 30
"""Calls that tasks make are numbered from here on, those of the program from 1."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The measurement of one attempt at one task.

    Attributes
    ----------
    task_id : int
        Number of the call in program order, from 1; from `FIRST_NESTED` on for a call that a task has made.
    module, name : str
        Module of the function (for the program itself, its file name without suffix) and its qualified name; `target`
        joins them.
    file : str
        Source file of the function; relative to the program's folder, which ``run.json`` names, if the file is in it.
    node, pid, thread : str, int, int
        Host name, process id of the worker, and the system's id of the thread that ran the task.
    attempt : int
        1 for the first execution, higher for repeated ones.
    start_s, end_s, cpu_s : float or None
        Start and end in seconds since the epoch; processor time of the task's thread in seconds.
    base_bytes, peak_bytes, end_bytes : int or None
        Resident set size of the worker process at the start of the task, its highest value during the task, and its
        value at the end.
    method : str or None
        Method of `peak_bytes`: ``hwm`` (the kernel's high-water mark, exact) or ``sampled`` (the largest reading, a
        lower bound).
    shared : bool
        Whether another task ran in the same process at the same time; the peak is then an upper bound.
    status : str
        ``finished``, ``failed`` (raised), ``killed`` (the process died), ``cancelled`` (the program cancelled it, or
        the run ended before it did), or ``running`` (no end is known).
    exception : str or None
        Type of the exception of a failed task.
    last_bytes : int or None
        Last reading of the resident set size before the end of a killed or cancelled task.
    limit_bytes : int or None
        Memory limit of the worker process.
    lifetime_peak_bytes : int or None
        Highest resident set size of the process since its start, over all its tasks.
    reason : str or None
        Why the task was killed or cancelled, or why a value is missing.
    data_id : str or None
        Data id of the quantum, for tasks of a quantum graph.
    increment_bytes : int or None
        Most memory that the task itself added to the process: peak less base, corrected for memory of other tasks that
        was allocated or freed meanwhile.
    increment_unclear : str or None
        Why the increment may be wrong by more than 1 MiB; None if it is not.
    extra : dict or None
        Values from the user's probes: name to number, text, True, False or None. None if there are no probes.
    stack : str or None
        For a task that exceeded its time limit: its stack, one line per frame, innermost last.
    held_bytes : int or None
        Part of the peak that belongs to other tasks: results, and inputs of other calls. Counts objects of at least
        64 KiB by Dask's estimate of their size; None if unknown.
    parent_id : int or None
        Number of the call that has made this one inside its task; None: the program has made it.
    recorded_by : str or None
        Tool that recorded the allocations of the task (``memray``). Its own memory is in `peak_bytes` and
        `increment_bytes`, which are upper bounds; None for most tasks.
    key, layer, worker : str or None
        Of a task of a plain Dask program (`runmem.measure`): its key, the layer of the graph that it belongs to (for a
        key that is no tuple, Dask's task group), and the address of its worker. `module` is then ``dask``, `name` the
        prefix of the key, and `task_id` Dask's number of the execution.
    annotations : dict or None
        The task's Dask annotations; a value that is no number, text, True, False or None is written as text.
    input_bytes, output_bytes : int or None
        Size of the task's inputs together, and of its result, by Dask's estimate.
    argument_bytes : dict or None
        Of a killed task: size of each argument that another task made or that is stored by itself, by the name of its
        parameter; of all others together as ``others``.
    death : Death or None
        How the process of a killed task died, or the facts of a task's `MemoryError`; None otherwise, and in records of
        earlier versions.
    children_peak_bytes : int or None
        Most memory of the task's child processes; see `children_method`. An upper bound where `shared`.
    children_method : str or None
        ``sampled``: their highest sum in a sample, a lower bound; ``hwm``: the kernel's high-water mark of one process,
        which is exact for that one; ``missed``: there were some, and `reason` says why their memory is not known.
        None: none is known.
    children_command : str or None
        Command of the children with the largest share of that memory, in one word.
    gpu_peak_bytes : int or None
        Most memory on NVIDIA's GPUs of the worker process and its children in a sample, a lower bound; None if it has
        used none, or none was read.
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
    parent_id: int | None = None
    recorded_by: str | None = None
    extra: dict[str, int | float | str | bool | None] | None = field(default=None, hash=False)
    key: str | None = None
    layer: str | None = None
    worker: str | None = None
    annotations: dict[str, int | float | str | bool | None] | None = field(default=None, hash=False)
    input_bytes: int | None = None
    output_bytes: int | None = None
    argument_bytes: dict[str, int | float | str | bool | None] | None = field(default=None, hash=False)
    death: Death | None = None
    children_peak_bytes: int | None = None
    children_method: str | None = None
    children_command: str | None = None
    gpu_peak_bytes: int | None = None

    @property
    def target(self) -> str:
        """Name of the task for metrics, such as ``wordcount.count_words``."""
        return f"{self.module}.{self.name}"

    @property
    def elapsed_s(self) -> float | None:
        """Wall time of the task; a lower bound if it was cut off."""
        return None if self.end_s is None else self.end_s - self.start_s

    @property
    def is_cut_off(self) -> bool:
        """Whether `end_s` is the time of the last reading, since the worker has reported no end."""
        return self.end_s is not None and self.cpu_s is None


@dataclass(frozen=True, slots=True)
class ClusterStarted:
    """Workers are ready. `dashboard` is the address of the Dask dashboard, None if there is none."""

    dashboard: str | None
    workers: int


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """The program called a task.

    Attributes
    ----------
    task_id : int
    name : str
    inputs : tuple of (int, int)
        The data that it gets from other calls: number of the call, number of its output.
    after : tuple of int
        Calls that must have ended first, because of files.
    files : tuple of str
        Files that it reads or writes: paths of the program, or of versions with the same base names.
    """

    task_id: int
    name: str
    inputs: tuple[tuple[int, int], ...] = ()
    after: tuple[int, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker started a task. `record` has no end yet."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class TasksRunning:
    """The known number of running tasks has changed (only if memory is measured)."""

    count: int


@dataclass(frozen=True, slots=True)
class TaskWaitedFor:
    """The run waits for one task: all others have ended or depend on it. Reported once per task, after a minute.

    `running_s`, `node` and `pid` are None if memory is not measured.
    """

    task_id: int
    name: str
    running_s: float | None = None
    node: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task finished, failed or was cancelled, as reported by the cluster, also if memory is not measured."""

    task_id: int
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class TaskMeasured:
    """The measurement of an attempt that ended or was killed has arrived at the master."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class TaskKilled:
    """The process of a running task died; its `record` has the facts. Before the `TaskMeasured` of that attempt."""

    record: TaskRecord


@dataclass(frozen=True, slots=True)
class NodeSampled:
    """The sampler of a node read its memory."""

    node: str
    time_s: float
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryManaged:
    """Dask did something because the memory of a worker was short.

    Attributes
    ----------
    node : str
    pid : int
        Process id of the worker.
    kind : str
        ``spilled`` (results moved from memory to disk), ``paused`` (the worker begins no task), ``resumed``,
        ``terminated`` (its nanny ended it at its limit) or ``restarted`` (its nanny started it in place of one that
        died).
    time_s : float
    size_bytes : int or None
        Resident set size of the worker then; None if it could not be read.
    spilled_bytes, results : int
        What was spilled since the event before, by Dask's estimate of its size in memory.
    in_task : bool
        Whether the worker ran a task then, as far as known. If it was terminated, a `TaskKilled` follows.
    """

    node: str
    pid: int
    kind: str
    time_s: float
    size_bytes: int | None = None
    spilled_bytes: int = 0
    results: int = 0
    in_task: bool = False


@dataclass(frozen=True, slots=True)
class ProfileReported:
    """A `@profile` report has arrived from a worker.

    `not_recorded`: why the allocations of the call were to be recorded, and were not.
    """

    node: str
    pid: int
    task_id: int | None
    name: str
    text: str
    not_recorded: str | None = None


@dataclass(frozen=True, slots=True)
class CaptureReceived:
    """A part of a file with recorded allocations has arrived from a worker: `data` at `offset` of `file`."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LogLines:
    """Log records of tasks have arrived from a node: JSON lines with the attributes of `logging.LogRecord`."""

    node: str
    lines: bytes


@dataclass(frozen=True, slots=True)
class RecordLines:
    """Records of ended tasks have arrived, as lines of ``tasks.jsonl``."""

    lines: bytes
    count: int


@dataclass(frozen=True, slots=True)
class DataLost:
    """Measurements were lost: the place, and the known amount and cause."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """All data is collected. `exit_code` is the program's, None if unknown."""

    exit_code: int | None
