"""What a trial asks of Slurm: its jobs, its queue, its accounting, and how it writes memory.

Memory: Slurm writes a number and K, M, G, T or P, all of them binary. A number alone is in bytes: that is how `sacct`
and `sstat` write it with ``--noconvert`` (seen on 22.05), which is asked for because without it they round.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from runmem.clusters.slurm_words import HOPELESS, explained
from runmem.units import KIB

__all__ = ["JobOptions", "JobState", "StepMemory", "ask", "job_named", "job_state", "parse_memory", "parse_steps",
           "why_not_gathered"]  # fmt: skip

_ANSWER_S = 30.0
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_GOING = ("RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING")
_SIGNALLED = {"CANCELLED": 128 + 15, "TIMEOUT": 128 + 15, "DEADLINE": 128 + 15, "PREEMPTED": 128 + 15,
              "OUT_OF_MEMORY": 128 + 9}  # fmt: skip
_ENDED_BY_MEMORY = "OUT_OF_MEMORY"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What every job of a trial asks for.

    Attributes
    ----------
    queue : str or None
        Partition; None for Slurm's default.
    flags : tuple of str
        Further options, as srun and sbatch both know them.
    wait_s : float
        Seconds that a job may wait in the queue before the trial gives it up.
    """

    queue: str | None = None
    flags: tuple[str, ...] = ()
    wait_s: float = 600.0

    def words(self) -> list[str]:
        """Return them as srun and sbatch take them."""
        return [*([f"--partition={self.queue}"] if self.queue is not None else []), *self.flags]


@dataclass(frozen=True, slots=True)
class JobState:
    """A job now: its number, its state in Slurm's word, why it waits, and its exit code once it has ended."""

    job: str
    state: str
    reason: str = "None"
    exit_code: int | None = None

    @property
    def waits(self) -> bool:
        """Whether it has not started yet."""
        return self.state in _WAITING

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.state not in _WAITING and self.state not in _GOING

    @property
    def is_hopeless(self) -> bool:
        """Whether it will never start as it is."""
        return self.state == "PENDING" and self.reason in HOPELESS

    def __str__(self) -> str:
        why = f" ({explained(self.reason)})" if self.waits and self.reason != "None" else ""
        return f"job {self.job} is {self.state}{why}"


@dataclass(frozen=True, slots=True)
class StepMemory:
    """One step of a job: a line of `sacct` or `sstat`.

    Attributes
    ----------
    step : str
        ``12.batch``, ``12.0``; the job's own line, ``12``, has no memory and is left out.
    state : str
        Empty in a line of `sstat`.
    max_rss_bytes, ave_rss_bytes : int or None
        None where the field is empty, or 0: a process that ran had some memory, so 0 says that none was read.
    is_recorded : bool
        Whether the field has been filled in, with 0 too. `sacct` shows a step as ended as soon as its job has ended,
        and with an empty field until the record of the step itself has come (seen on 22.05).
    """

    step: str
    state: str
    max_rss_bytes: int | None
    ave_rss_bytes: int | None
    is_recorded: bool = True

    @property
    def name(self) -> str:
        """The step within its job: ``batch``, ``extern``, ``0``."""
        return self.step.partition(".")[2]

    @property
    def has_ended(self) -> bool:
        """Whether the accounting has heard of its end."""
        return self.state not in ("", *_WAITING, *_GOING)

    @property
    def was_killed_for_memory(self) -> bool:
        """Whether the kernel ended it at its limit; Slurm then keeps 0 for its memory."""
        return self.state == _ENDED_BY_MEMORY


def parse_memory(text: str) -> int | None:
    """Return the bytes of a memory field of Slurm's, None for an empty one.

    Raises
    ------
    ValueError
        If the unit is none that Slurm is known to write.
    """
    if not text.strip():
        return None
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"Slurm wrote {text.strip()!r} for a memory: no number with K, M, G, T, P or no unit (bytes)")
    return int(float(match[1]) * KIB ** _POWERS[match[2]]) if match[2] or "." in match[1] else int(match[1])


def parse_steps(text: str) -> list[StepMemory]:
    """Return the steps in lines ``JobID|MaxRSS|AveRSS`` (`sstat`) or with ``|State`` behind (`sacct`).

    Raises
    ------
    ValueError
        If a line is none of these, or a memory has an unknown unit.
    """
    steps = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) not in (3, 4):
            raise ValueError(f"Slurm wrote the line {line!r}: no step with MaxRSS and AveRSS")
        if "." not in fields[0]:
            continue
        state = fields[3].split()[0] if len(fields) == 4 and fields[3].strip() else ""  # "CANCELLED by 0"
        most, mean = parse_memory(fields[1]), parse_memory(fields[2])
        steps.append(StepMemory(fields[0], state, most or None, mean or None, most is not None))
    return steps


def ask(*command: str) -> str | None:
    """Return what a command of Slurm's prints, None if it is missing, fails or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_ANSWER_S, env=environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def why_not_gathered() -> str | None:
    """Return why Slurm has no memory of any job; None if it gathers it."""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    if shown.returncode:
        return f"Slurm does not answer: {shown.stderr.strip()}"
    return "Slurm gathers no memory here (JobAcctGatherType)" if "jobacct_gather/none" in shown.stdout else None


def environment() -> dict[str, str]:
    """Return this process's environment, in which Slurm's commands write numbers and times plainly."""
    return {**os.environ, "LC_ALL": "C"}


def job_named(name: str) -> JobState | None:
    """Return the job of that name that waits or runs, None if there is none."""
    lines = (ask("squeue", "-h", "-n", name, "-o", "%i|%T|%r") or "").splitlines()
    if not lines or lines[0].count("|") < 2:
        return None
    job, state, reason = lines[0].split("|", 2)
    return JobState(job, state, reason)


def job_state(job: str) -> JobState | None:
    """Return how a job is: from the controller, else from the accounting; None if neither knows it."""
    shown = ask("scontrol", "-o", "show", "job", job)
    if shown is not None:
        fields: dict[str, str] = dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", shown))
        state = fields.get("JobState", "UNKNOWN")
        return JobState(job, state, fields.get("Reason", "None"), _exit_code(state, fields.get("ExitCode", "")))
    found = (ask("sacct", "-n", "-X", "-P", "-j", job, "-o", "State,ExitCode") or "").strip()
    if "|" not in found:
        return None
    state, _, code = found.splitlines()[-1].partition("|")
    return JobState(job, state.split()[0], "None", _exit_code(state.split()[0], code))


def _exit_code(state: str, field: str) -> int | None:
    """Return the exit code of a job that ended; Slurm writes it as ``<code>:<signal>``."""
    if state in _WAITING or state in _GOING:
        return None
    code, _, number = field.partition(":")
    if state in _SIGNALLED:
        return 128 + int(number) if number.isdecimal() and 0 < int(number) < 65 else _SIGNALLED[state]
    if number.isdecimal() and int(number):
        return 128 + int(number)
    if code.isdecimal() and (int(code) or state == "COMPLETED"):
        return int(code)
    return 1
