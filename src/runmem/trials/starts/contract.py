"""What a way to start a command is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from runmem.trials.methods.contract import Method
from runmem.trials.outcome import Outcome, Site

__all__ = ["JobOptions", "Start", "StartError"]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What every job of a trial asks for: partition, options that srun and sbatch know, seconds that it may wait."""

    queue: str | None = None
    flags: tuple[str, ...] = ()
    wait_s: float = 600.0

    def arguments(self) -> list[str]:
        """Write them as srun and sbatch take them."""
        return [*([f"--partition={self.queue}"] if self.queue is not None else []), *self.flags]


class StartError(Exception):
    """A command that could not be started at all: what was tried and why it failed."""


class Start:
    """Runs one command to its end, under methods that watch it; a new object for each.

    Parameters
    ----------
    job : JobOptions
        For the ways that start jobs.
    say : callable
        Takes a line for a person, such as why a job waits; without one nothing is said.
    """

    name: ClassVar[str]
    shares_folder: ClassVar[bool] = False
    """Whether the folder of the execution must be seen from other hosts: it is made in the current folder then."""

    def __init__(self, job: JobOptions | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self.job = JobOptions() if job is None else job
        self.say = say

    def available(self) -> str | None:
        """Return why nothing can be started this way on this machine, None if it can."""
        return None

    def run(self, command: Sequence[str], methods: Sequence[Method], site: Site) -> Outcome:
        """Start `command`, wait for its end, and return how it was.

        The methods were prepared. Here they wrap the command, give the groups that it joins, and watch its process
        where that is in sight; what they raise goes into `Outcome.reasons`. Standard output and error of the command
        go to `Site.stdout` and `Site.stderr`, and it reads nothing: it is repeated, and its input cannot be.

        Raises
        ------
        StartError
            If the command could not be started.
        KeyboardInterrupt
            If the user interrupted; the command and all of its process group have ended by then.
        """
        raise NotImplementedError

    def watch(
        self, methods: Sequence[Method], pid: int | None, reasons: dict[str, str], job: str | None = None
    ) -> None:
        """Have the methods watch the job and the process, where it has these; note why one cannot."""
        for method in methods:
            try:
                if job is not None:
                    method.watch_job(job)
                if pid is not None:
                    method.watch(pid)
            except (OSError, ValueError, RuntimeError) as error:
                reasons[method.name] = str(error)
