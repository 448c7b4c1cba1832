"""The result of one execution of a command."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

from runmem.reading import JsonObject

__all__ = ["CommandOutcome", "ProcessEnd", "Site", "exit_code_of"]


@dataclass(frozen=True, slots=True)
class Site:
    """The folder, interval and processors of one execution.

    Attributes
    ----------
    folder : Path
        Folder of this execution alone, also for files of the methods.
    interval_s : float
        Seconds between samples.
    cpus : tuple of int
        Processors that the command may use; empty for all.
    """

    folder: Path
    interval_s: float = 0.1
    cpus: tuple[int, ...] = ()

    @property
    def stdout(self) -> Path:
        """File of the command's standard output."""
        return self.folder / "stdout"

    @property
    def stderr(self) -> Path:
        """File of the command's standard error."""
        return self.folder / "stderr"


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """One process of the command at its end.

    Attributes
    ----------
    pid, parent : int
    name : str
    start_s, end_s : float
        Monotonic clock of the host; `end_s` is None for a process that outlived the command.
    peak_bytes : int or None
        Its high-water mark at its exit; None if unreadable.
    """

    pid: int
    parent: int
    name: str
    start_s: float
    end_s: float | None
    peak_bytes: int | None

    @classmethod
    def from_launcher(cls, processes: Iterable[JsonObject]) -> tuple[ProcessEnd, ...]:
        """Return the processes of the launcher's report that had memory of their own."""
        names = [each.name for each in fields(cls)]
        return tuple(cls(**{name: each[name] for name in names}) for each in processes if each["has_own_memory"])


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """The result of one execution.

    Attributes
    ----------
    exit_code : int
        Of the command; 128 + the signal number if a signal ended it.
    wall_s : float or None
        Seconds from its first instruction to its end.
    pid : int or None
        The command's process; None if it ran on another host.
    processes : tuple of ProcessEnd
        The command and its descendants; empty if they were not traced.
    maxrss_bytes : int or None
        ``ru_maxrss`` from ``wait4``.
    floor_bytes : int or None
        Lower bound of `maxrss_bytes`: the peak of the process before it executed the command.
    job : str or None
        Id of the batch job, with its step if it has one.
    cpu_s : float or None
        Processor time, user and system, of the command and all processes that were waited for.
    reasons : dict of str to str
        Name of a method to the reason why it could not measure.
    unseen : str or None
        Why not all processes of the command are on this machine.
    has_other_parts : bool
        Whether the job has further tasks or steps with memory of the command.
    stopped_s : float or None
        About how long tracing stopped threads of the command; None without tracing.
    """

    exit_code: int
    wall_s: float | None = None
    pid: int | None = None
    processes: tuple[ProcessEnd, ...] = ()
    maxrss_bytes: int | None = None
    floor_bytes: int | None = None
    job: str | None = None
    cpu_s: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    unseen: str | None = None
    has_other_parts: bool = False
    stopped_s: float | None = None


def exit_code_of(code: int) -> int:
    """Return the exit code that a shell shows for a Python return code, which is negative for a signal."""
    return code if code >= 0 else 128 - code
