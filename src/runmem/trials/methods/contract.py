"""What a measuring method is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from runmem.trials.outcome import Outcome, Site

__all__ = ["Column", "Method", "Reading"]


@dataclass(frozen=True, slots=True)
class Column:
    """A number that a method tells.

    Attributes
    ----------
    name : str
        Such as ``hwm`` or ``hwm sum``; unique among all methods.
    scope : str
        ``process`` (the largest single process) or ``tree`` (the command and all that it started, together).
    kind : str
        ``peak`` (kept by the kernel, nothing can be missed), ``sample`` (the highest of the samples), ``average``.
    meaning : str
        What is measured, in one line.
    low, high : str
        Why it may tell too little and too much, for the verdict; empty where it does not.
    """

    name: str
    scope: str
    kind: str
    meaning: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a method told of one execution.

    Attributes
    ----------
    column : str
    size_bytes : int or None
    reason : str or None
        Why there is no value, or what to know of it.
    is_partial : bool
        Whether the value leaves a part of the command out, whatever the method does well elsewhere: it is not trusted.
    """

    column: str
    size_bytes: int | None
    reason: str | None = None
    is_partial: bool = False


class Method:
    """A way to measure the memory of one execution; a new object for each.

    In this order: `prepare`, `wrap` and `group` before the command starts; `watch` when its process is there and stands
    before its first instruction; `collect` after its end. Every hook may raise OSError, ValueError or RuntimeError: the
    execution goes on, and what was raised is the reason for the missing value.

    A method names the starts that it can measure. In a job `watch_job` comes before `watch`, and `watch` only where the
    processes of the job are in sight of this machine; `Outcome.job` is there in `collect`.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    assumptions: ClassVar[str] = ""
    limitations: ClassVar[str] = ""
    starts: ClassVar[frozenset[str]] = frozenset({"local"})
    """Names of the ways to start a command under which this method can measure."""

    traces: ClassVar[bool] = False
    """Whether the processes of the command have to be followed to their ends."""

    watches: ClassVar[bool] = False
    """Whether it looks at the processes of this machine, and so has no value where the command has others."""

    def available(self) -> str | None:
        """Return why the method cannot be used on this machine, None if it can."""
        return None

    def prepare(self, site: Site) -> None:
        """Make ready in the folder of the execution."""

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command`."""
        return list(command)

    def group(self) -> Path | None:
        """Return a file that the command's process writes its number to before it starts."""
        return None

    def watch(self, pid: int) -> None:
        """Begin to watch process `pid`; return as soon as nothing can be missed any more."""

    def watch_job(self, job: str) -> None:
        """Begin to watch a job (``12``) or a step (``12.0``) of a batch system, before the command begins in it."""

    def collect(self, outcome: Outcome) -> list[Reading]:
        """End watching and return a reading a column."""
        raise NotImplementedError

    def missing(self, reason: str) -> list[Reading]:
        """Return a reading without a value for every column."""
        return [Reading(column.name, None, reason) for column in self.columns]
