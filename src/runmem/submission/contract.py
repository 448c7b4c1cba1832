"""The contract of batch systems for `runmem submit`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = ["BatchSystem", "JobRequest", "JobStatus"]


@dataclass(frozen=True)
class JobRequest:
    """A program and the resources of its job; None for the default of the batch system.

    Attributes
    ----------
    command : tuple of str
        The program and its arguments.
    runmem_options : tuple of str
        Options of `runmem run`.
    python : str
        Interpreter with runmem, the same path on all nodes.
    folder : Path
        Working folder of the job, and of its output files.
    name : str
    num_nodes : int
    workers_per_node : int or None
        Number of workers, and of cores, per node; None: whole nodes, one worker per core.
    worker_memory_bytes : int or None
        Memory limit of a worker.
    node_memory_bytes : int or None
        Memory of each node; None: enough for the workers, or all of a whole node.
    exec_time_s : int or None
        Time limit of the job in seconds.
    queue, qos, reservation, project_name, constraints, job_dependency : str or None
        Names in the batch system.
    extra_submit_flags : tuple of str
        More options of the batch system, in its syntax.
    pre_env_script, env_script : Path or None
        Shell scripts to source on the first node, in this order, before the program starts. The other nodes inherit
        its environment.
    """

    command: tuple[str, ...]
    runmem_options: tuple[str, ...]
    python: str
    folder: Path
    name: str
    num_nodes: int = 1
    workers_per_node: int | None = None
    worker_memory_bytes: int | None = None
    node_memory_bytes: int | None = None
    exec_time_s: int | None = None
    queue: str | None = None
    qos: str | None = None
    reservation: str | None = None
    project_name: str | None = None
    constraints: str | None = None
    job_dependency: str | None = None
    extra_submit_flags: tuple[str, ...] = ()
    pre_env_script: Path | None = None
    env_script: Path | None = None


@dataclass(frozen=True)
class JobStatus:
    """The state of a job in a batch system.

    Attributes
    ----------
    state : str
        Name in the batch system, such as ``PENDING``.
    has_ended : bool
    reason : str or None
        Why it waits: the system's reason, with an explanation if there is one.
    never_starts : bool
        Whether it can never start as submitted.
    expected_start : str or None
        Start time expected by the system; None if unknown.
    nodes : str or None
        Nodes of a running job.
    exit_code : int or None
        Exit code of an ended job: the program's, or 128 + the signal that ended it; 0 only if completed; None if
        unknown.
    """

    state: str
    has_ended: bool
    reason: str | None = None
    never_starts: bool = False
    expected_start: str | None = None
    nodes: str | None = None
    exit_code: int | None = None


class BatchSystem(ABC):
    """A batch system.

    Attributes
    ----------
    name : str
        Name in `BATCH_SYSTEMS`.
    """

    name: ClassVar[str]

    @abstractmethod
    def check(self) -> None:
        """Raise a ClusterError if this machine cannot submit jobs."""

    @abstractmethod
    def script(self, job: JobRequest) -> str:
        """Return the job script.

        Raises
        ------
        SettingError
            If the batch system does not support an option of the job.
        """

    @abstractmethod
    def submit(self, script: str) -> str:
        """Submit a job script and return the job's number.

        Raises
        ------
        ClusterError
            If the system rejects it, with the system's message and a remedy.
        """

    @abstractmethod
    def status(self, job_id: str) -> JobStatus:
        """Ask for the state of a job.

        Raises
        ------
        ClusterError
            If the system does not answer or does not know the job.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Cancel a job; ended jobs are ignored."""

    @abstractmethod
    def outputs(self, job_id: str, folder: Path) -> tuple[Path, Path]:
        """Return the paths of a job's standard output and standard error."""

    @abstractmethod
    def hints(self, job_id: str) -> dict[str, str]:
        """Return the user's commands to ``show`` a job and to ``cancel`` it."""
