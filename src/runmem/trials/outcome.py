"""What is known of one execution of a command once it has ended."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Outcome", "ProcessEnd", "Site", "exit_code_of"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where one execution takes place.

    Attributes
    ----------
    folder : Path
        Folder of this execution alone; methods may put files there.
    interval_s : float
        Seconds between the samples of the methods that take samples.
    cpus : tuple of int
        Processors that the command may use; empty for all.
    """

    folder: Path
    interval_s: float = 0.1
    cpus: tuple[int, ...] = ()

    @property
    def stdout(self) -> Path:
        """What the command wrote to its standard output."""
        return self.folder / "stdout"

    @property
    def stderr(self) -> Path:
        """What the command wrote to its standard error."""
        return self.folder / "stderr"


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """One process of the command, as it was when it ended.

    Attributes
    ----------
    pid, parent : int
    name : str
    start_s, end_s : float
        Monotonic clock of the host; `end_s` is None for a process that outlived the command.
    peak_bytes : int or None
        Its high-water mark at its exit; None where it could not be read.
    """

    pid: int
    parent: int
    name: str
    start_s: float
    end_s: float | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One execution.

    Attributes
    ----------
    exit_code : int
        Of the command; 128 + the number of the signal that ended it.
    wall_s : float or None
        Seconds from its first instruction to its end.
    pid : int or None
        The command's process; None where it ran out of sight (on another host).
    processes : tuple of ProcessEnd
        The command and all that it started; empty where they were not followed.
    maxrss_bytes : int or None
        ``ru_maxrss`` that ``wait4`` gave.
    floor_bytes : int or None
        What `maxrss_bytes` is at least, whatever the command does: the peak of the process that became it.
    job : str or None
        Number of the batch job, with its step where it has one.
    cpu_s : float or None
        Processor time, user and system, of the command and all that was waited for.
    reasons : dict of str to str
        Name of a method to why it could not measure.
    unseen : str or None
        Why the processes of this machine are not those of the command, or not all of them.
    has_other_parts : bool
        Whether further tasks or steps of the job hold memory of the command.
    stopped_s : float or None
        About how long threads of the command stood still because its processes were followed; None where they were not.
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


def exit_code_of(status: int) -> int:
    """Return the exit code for a status of ``wait``, as a shell has it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
