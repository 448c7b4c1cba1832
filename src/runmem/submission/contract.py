"""What every batch system offers `runmem submit`, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

__all__ = ["BatchSystem", "JobRequest", "JobStatus"]


@dataclass(frozen=True)
class JobRequest:
    """A program and what it asks of the batch system; None leaves a choice to the system.

    Attributes
    ----------
    command : tuple of str
        The program and its arguments.
    runmem_options : tuple of str
        Options of `runmem run`.
    python : str
        Interpreter that has runmem, on all nodes.
    folder : Path
        Where the job runs and writes its output.
    name : str
    num_nodes : int
    workers_per_node : int or None
        Worker processes, and cores, of each node; None: whole nodes, one worker a core.
    worker_memory_bytes : int or None
        Memory limit of a worker.
    node_memory_bytes : int or None
        Memory of each node; None: what the workers need, or, of whole nodes, all.
    exec_time_s : int or None
        The job's time limit in seconds.
    queue, qos, reservation, project_name, constraints, job_dependency : str or None
        As the batch system names them.
    extra_submit_flags : tuple of str
        Further options of the batch system, as it writes them.
    pre_env_script, env_script : Path or None
        Shell scripts sourced on the first node, in this order, before the program starts. The other nodes get the
        environment from there.
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
    """What a batch system says of a job now.

    Attributes
    ----------
    state : str
        In the system's own words, such as ``PENDING``.
    waits, ended : bool
        Whether it has not started yet; whether it is over.
    reason : str or None
        Why it waits, in the system's words and, where they are known, in plain ones.
    hopeless : bool
        Whether it will never start, as it was submitted.
    expected_start : str or None
        When the system expects it to start; None where it does not say.
    nodes : str or None
        Where it runs.
    exit_code : int or None
        Of a job that ended: the program's; 128 + the signal that ended it; 0 only of a completed one; None: not known.
    """

    state: str
    waits: bool
    ended: bool
    reason: str | None = None
    hopeless: bool = False
    expected_start: str | None = None
    nodes: str | None = None
    exit_code: int | None = None


class BatchSystem(ABC):
    """Jobs of one kind of batch system.

    Attributes
    ----------
    name : str
        Its name in `BATCH_SYSTEMS`.
    """

    name: ClassVar[str]

    @abstractmethod
    def check(self) -> None:
        """Raise ClusterError if this machine cannot submit jobs; says what is missing."""

    @abstractmethod
    def script(self, job: JobRequest) -> str:
        """Return the job script.

        Raises
        ------
        SettingError
            If the job asks for something that the system cannot be asked for.
        """

    @abstractmethod
    def submit(self, script: str) -> str:
        """Submit a job script and return the job's number.

        Raises
        ------
        ClusterError
            If the system refuses it, with what it said and what to do.
        """

    @abstractmethod
    def status(self, job_id: str) -> JobStatus:
        """Ask what a job does.

        Raises
        ------
        ClusterError
            If the system does not answer, or does not know the job.
        """

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Cancel a job; one that is over is left."""

    @abstractmethod
    def outputs(self, job_id: str, folder: Path) -> tuple[Path, Path]:
        """Return the files of a job's standard output and standard error."""

    @abstractmethod
    def hints(self, job_id: str) -> dict[str, str]:
        """Return the commands that ``look`` at a job and ``cancel`` it, for a person."""
