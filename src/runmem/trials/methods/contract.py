"""The contract of a measuring method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runmem.trials.outcome import CommandOutcome, Site

__all__ = ["ANY_START", "JOB_STARTS", "Method", "MethodColumn", "Reading"]

ANY_START = frozenset({"local", "srun", "sbatch"})
JOB_STARTS = frozenset({"srun", "sbatch"})


@dataclass(frozen=True, slots=True)
class MethodColumn:
    """A number that a method reports.

    Attributes
    ----------
    name : str
        Such as ``hwm`` or ``hwm sum``; unique among all methods.
    scope : str
        ``process`` (the largest single process) or ``tree`` (the command and all its descendants, together).
    kind : str
        ``peak`` (kept by the kernel, nothing can be missed), ``sample`` (the highest of the samples), ``average``.
    meaning : str
        What is measured, in one line.
    low, high : str
        Why the number may be too low or too high, for the verdict; empty if it cannot be.
    """

    name: str
    scope: str
    kind: str
    meaning: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of one column for one execution.

    Attributes
    ----------
    column : str
    size_bytes : int or None
    reason : str or None
        Why there is no value, or a remark on it.
    is_partial : bool
        Whether the value leaves out a part of the command; then it is not trusted, even if the method is.
    """

    column: str
    size_bytes: int | None
    reason: str | None = None
    is_partial: bool = False


class Method:
    """A way to measure the memory of one execution; a new object for each.

    The hooks are called in this order: `prepare`, `wrap` and `group` before the command starts; `watch` when its
    process exists and waits before its first instruction; `collect` after its end. Every hook may raise OSError,
    ValueError or RuntimeError: the execution continues, and the error is the reason for the missing value.

    In a job `watch_job` is called before `watch`, and `watch` only if the job runs on this machine;
    `CommandOutcome.job` is set in `collect`.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[MethodColumn, ...]]
    assumptions = ""
    limitations = ""
    starts: ClassVar[frozenset[str]] = frozenset({"local"})
    """Names of the starts under which the method can measure."""

    traces: ClassVar[bool] = False
    """Whether the processes of the command must be traced."""

    watches: ClassVar[bool] = False
    """Whether it reads the processes of this machine, and so has no value if the command runs elsewhere."""

    def available(self) -> str | None:
        """Return the reason why the method cannot be used on this machine, None if it can."""
        return None

    def prepare(self, site: Site) -> None:
        """Prepare the measurement in the folder of the execution."""

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command`."""
        return list(command)

    def group(self) -> Path | None:
        """Return a file that the command's process writes its process id to before it starts."""
        return None

    def watch(self, pid: int) -> None:
        """Begin to watch process `pid`; return once nothing can be missed."""

    def watch_job(self, job: str) -> None:
        """Begin to watch a job (``12``) or a job step (``12.0``), before its command starts."""

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        """Stop watching and return a reading for every column."""
        raise NotImplementedError

    def missing(self, reason: str) -> list[Reading]:
        """Return a reading without a value for every column."""
        return [Reading(column.name, None, reason) for column in self.columns]
