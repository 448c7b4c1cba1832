"""The contract of a start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from runmem.trials.methods.contract import Method
from runmem.trials.outcome import CommandOutcome, Site

__all__ = ["JobOptions", "Start", "StartError"]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of every job of a trial: partition, options of srun and sbatch, longest wait in seconds."""

    queue: str | None = None
    flags: tuple[str, ...] = ()
    wait_s: float = 600.0

    def arguments(self) -> list[str]:
        """Return the options for the command lines of srun and sbatch."""
        return [*([f"--partition={self.queue}"] if self.queue is not None else []), *self.flags]


class StartError(Exception):
    """A command that could not be started, with the reason."""


class Start:
    """Run one command to its end, under methods that watch it; a new object for each command.

    Parameters
    ----------
    job : JobOptions
        For starts that submit jobs.
    say : callable
        Prints a line for the user, such as why a job waits; default none.
    """

    name: ClassVar[str]
    shares_folder: ClassVar[bool] = False
    """Whether other hosts must see the folder of the execution, which is then made in the current folder."""

    def __init__(self, job: JobOptions | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self.job = JobOptions() if job is None else job
        self.say = say

    def available(self) -> str | None:
        """Return the reason why nothing can be started this way on this machine, None if it can."""
        return None

    def run(self, command: Sequence[str], methods: Sequence[Method], site: Site) -> CommandOutcome:
        """Start `command`, wait for its end, and return its outcome.

        The methods have been prepared. Here they wrap the command, name the control groups that it joins, and watch its
        process if it is on this machine; their errors go into `CommandOutcome.reasons`. Standard output and error of
        the command go to `Site.stdout` and `Site.stderr`. Its standard input is empty, since it is run repeatedly.

        Raises StartError if the command could not be started. Raises KeyboardInterrupt if the user interrupts; then the
        command and its process group have ended.
        """
        raise NotImplementedError

    def watch(
        self, methods: Sequence[Method], pid: int | None, reasons: dict[str, str], job: str | None = None
    ) -> None:
        """Have the methods watch the job and the process, if given; record why one cannot."""
        for method in methods:
            try:
                if job is not None:
                    method.watch_job(job)
                if pid is not None:
                    method.watch(pid)
            except (OSError, ValueError, RuntimeError) as error:
                reasons[method.name] = str(error)
