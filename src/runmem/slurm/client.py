"""Calls Slurm's commands: submits and cancels jobs, reads their states and their accounting records.

Memory: Slurm writes a number and K, M, G, T or P, all of them binary. A number alone is in bytes: that is how `sacct`
and `sstat` write it with ``--noconvert`` (seen on 22.05), which is used because they round otherwise.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runmem.errors import ClusterError
from runmem.slurm.reasons import (
    NEVER_STARTING,
    WAITING,
    exit_code,
    explain_reason,
    fault_in_slurm,
    has_ended,
    state_name,
)
from runmem.units import parse_bytes

__all__ = [
    "JobState",
    "RecordedEnd",
    "StepMemory",
    "answer",
    "cancel",
    "configuration",
    "host_names",
    "job_named",
    "job_state",
    "jobs_in_queue",
    "missing_command",
    "node_address",
    "parse_memory",
    "parse_steps",
    "recorded_ends",
    "recorded_steps",
    "refusal",
    "running_steps",
    "states_now",
    "submit",
    "why_no_memory",
]

_COMMAND_S = 60.0
_QUEUE = "%A|%T|%r|%S"  # %A: also of an element of an array a number of its own


@dataclass(frozen=True, slots=True)
class JobState:
    """The number and state of a job, with reason, nodes and expected start in Slurm's format, and its exit code.

    Unknown values are None: `squeue` has no exit code, the accounting no reason.
    """

    job: str
    state: str
    reason: str | None = None
    exit_code: int | None = None
    nodes: str | None = None
    expected_start: str | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its first or another start."""
        return self.state in WAITING

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return has_ended(self.state)

    @property
    def never_starts(self) -> bool:
        """Whether it can never start as submitted."""
        return self.state == "PENDING" and self.reason in NEVER_STARTING

    @property
    def explanation(self) -> str | None:
        """Slurm's reason for waiting, with an explanation if there is one; None if it does not wait."""
        if not self.is_waiting or self.reason is None or (self.reason == "None" and self.state != "PENDING"):
            return None
        return explain_reason(self.reason)

    def __str__(self) -> str:
        why = "" if self.explanation is None else f" ({self.explanation})"
        return f"job {self.job} is {self.state}{why}"


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """State of a job or step in the accounting, id of the user who cancelled it, and the highest memory of a process.

    Values that the accounting does not have are None.
    """

    state: str
    user: str | None = None
    max_rss_bytes: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.state != "" and has_ended(self.state)


@dataclass(frozen=True, slots=True)
class StepMemory:
    """One step of a job, such as ``12.batch``: a line of `sacct`, or of `sstat`, which has no state.

    A memory is None if the field is empty or 0, which means that no memory was read. `is_recorded` is True if the field
    is set, even to 0: `sacct` shows a step as ended when its job has ended, and the field is empty until the record of
    the step has arrived (seen on 22.05).
    """

    step: str
    state: str
    max_rss_bytes: int | None
    ave_rss_bytes: int | None
    is_recorded: bool = True

    @property
    def name(self) -> str:
        """Name of the step within its job: ``batch``, ``extern``, ``0``."""
        return self.step.partition(".")[2]

    @property
    def has_ended(self) -> bool:
        """Whether its end is in the accounting."""
        return self.state != "" and has_ended(self.state)


def missing_command(*names: str) -> str | None:
    """Return a message that names the first missing command; None if there is none."""
    name = next((name for name in names if shutil.which(name) is None), None)
    return None if name is None else f"there is no Slurm here: `{name}` is not on the PATH"


def submit(
    script: str, options: Sequence[str] = (), environment: Mapping[str, str] = os.environ, timeout_s: float = _COMMAND_S
) -> str:
    """Submit a job script with `sbatch` and the given environment; return the number of the job.

    Raises ClusterError with Slurm's message and a remedy if it rejects the job or does not answer in time.
    """
    done = _run(["sbatch", "--parsable", *options], timeout_s, script, environment)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]  # followed by the name of the cluster, if any
    if (fault := fault_in_slurm(done.stderr)) is not None:
        raise ClusterError(f"the job cannot be submitted: {fault}.")
    message, remedy = done.stderr.strip() or "no reason given", _remedy(done.stderr)
    raise ClusterError(
        f"sbatch refuses the job (exit code {done.returncode}): {message}" + (f"\n{remedy}" if remedy else "")
    )


def refusal(options: Sequence[str], timeout_s: float = 30.0) -> str | None:
    """Return Slurm's reason to reject a job with these options, None if it would accept it."""
    try:
        done = _run(["sbatch", "--test-only", *options, "--wrap=:"], timeout_s)
    except ClusterError as error:
        return str(error)
    if done.returncode == 0:
        return None
    remedy = _remedy(done.stderr)
    message = f"Slurm refuses the job: {done.stderr.strip()}" + (f". {remedy}" if remedy else "")
    return fault_in_slurm(done.stderr) or message


def cancel(job: str) -> None:
    """Cancel a job with SIGTERM, and SIGKILL after Slurm's KillWait. Ended jobs are ignored."""
    _ask("scancel", job)


def job_state(job: str) -> JobState | None:
    """Ask the controller for the state of a job, or the accounting if the controller has deleted it (MinJobAge).

    None if both do not know it. The accounting record may arrive some seconds after the job's end.
    """
    fields = dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", _ask("scontrol", "-o", "show", "job", job) or ""))
    if state := state_name(fields.get("JobState", "")):
        code, nodes = exit_code(state, fields.get("ExitCode", "")), _known(fields.get("NodeList", ""))
        start = _known(fields.get("StartTime", "")) if state in WAITING else None
        return JobState(job, state, fields.get("Reason", "None"), code, nodes, start)
    text = _ask("sacct", "-n", "-X", "-P", "-j", job, "-o", "JobID,State,ExitCode,NodeList") or ""
    for line in reversed([line for line in text.splitlines() if line.count("|") == 3]):
        number, state, field, nodes_field = line.split("|")
        if "." not in number and state_name(state):  # not a step, whose state may differ from its job's
            return JobState(job, state_name(state), None, exit_code(state, field), _known(nodes_field))
    return None


def job_named(name: str) -> JobState | None:
    """Find a waiting or running job by its name, None if there is none."""
    return next(iter(_queue("-n", name)), None)


def jobs_in_queue(jobs: Sequence[str]) -> list[JobState]:
    """Ask `squeue` for the states of jobs, including just ended ones; unknown jobs are omitted."""
    return _queue("-t", "all", "-j", ",".join(jobs))


def _queue(*selection: str) -> list[JobState]:
    return _parse_queue(_ask("squeue", "-h", *selection, "-o", _QUEUE) or "")


def _parse_queue(text: str) -> list[JobState]:
    lines = text.splitlines()
    found = [line.split("|", 3) for line in lines if line.count("|") >= 3]
    return [
        JobState(job, state_name(state), reason, expected_start=_known(start) if state in WAITING else None)
        for job, state, reason, start in found
    ]


def states_now(jobs: Sequence[str], timeout_s: float) -> dict[str, JobState]:
    """Ask `squeue` for the states of jobs, with one call for all; unknown jobs are omitted.

    Raises ClusterError if it does not answer in time.
    """
    command = "squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", _QUEUE
    return {state.job: state for state in _parse_queue(answer(*command, timeout_s=timeout_s))}


def recorded_ends(jobs: Sequence[str], timeout_s: float) -> dict[str, RecordedEnd]:
    """Read the accounts of jobs and of their steps, by number: ``12``, ``12.batch``, ``12.0``.

    Raises ClusterError if the accounting does not answer in time, ValueError for a memory with an unknown unit.
    """
    command = "sacct", "-n", "-P", "--noconvert", "-j", ",".join(jobs), "-o", "JobIDRaw,State,MaxRSS"
    rows = [line.split("|") for line in answer(*command, timeout_s=timeout_s).splitlines() if line.count("|") == 2]
    return {
        number: RecordedEnd(state_name(state), state.partition(" by ")[2] or None, parse_memory(memory) or None)
        for number, state, memory in rows
    }


def recorded_steps(job: str) -> list[StepMemory] | None:
    """Read the steps of a job from the accounting; None if it does not answer. Raises as `parse_steps`."""
    text = _ask("sacct", "-n", "-P", "--noconvert", "-j", job, "-o", "JobID,MaxRSS,AveRSS,State")
    return None if text is None else parse_steps(text)


def running_steps(job: str) -> list[StepMemory]:
    """Ask `sstat` for the steps of a running job. Raises as `parse_steps`."""
    return parse_steps(_ask("sstat", "-a", "-n", "-P", "--noconvert", "-j", job, "-o", "JobID,MaxRSS,AveRSS") or "")


def parse_memory(text: str) -> int | None:
    """Convert a memory field of Slurm to bytes, an empty one to None. Raises ValueError for an unknown unit."""
    text = text.strip()
    if text and re.fullmatch(r"\d+(\.\d+)?[KMGTP]?", text) is None:
        raise ValueError(f"Slurm wrote {text!r} for a memory: no number with K, M, G, T, P or no unit (bytes)")
    return parse_bytes(text) if text else None


def parse_steps(text: str) -> list[StepMemory]:
    """Parse lines ``JobID|MaxRSS|AveRSS`` (`sstat`), with ``|State`` from `sacct`, and return the steps without jobs.

    Raises ValueError for other lines, and for a memory with an unknown unit.
    """
    steps = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) not in (3, 4):
            raise ValueError(f"Slurm wrote the line {line!r}: no step with MaxRSS and AveRSS")
        if "." not in fields[0]:
            continue
        highest, mean = parse_memory(fields[1]), parse_memory(fields[2])
        state = state_name(fields[3]) if len(fields) == 4 else ""
        steps.append(StepMemory(fields[0], state, highest or None, mean or None, highest is not None))
    return steps


def host_names(nodes: str) -> list[str]:
    """Expand Slurm's list of nodes (``n[1-3]``) to names. Raises ClusterError."""
    return answer("scontrol", "show", "hostnames", nodes).split()


def node_address(node: str) -> str:
    """Return the address of a node, or its name if Slurm has none. Raises ClusterError."""
    shown = answer("scontrol", "-o", "show", "node", node)
    return next((word.partition("=")[2] for word in shown.split() if word.startswith("NodeAddr=")), node)


def configuration() -> dict[str, str]:
    """Read Slurm's configuration: name to value. Raises ClusterError."""
    return dict(re.findall(r"^\s*(\w+)\s*=\s*(.*)$", answer("scontrol", "show", "config"), re.MULTILINE))


def why_no_memory() -> str | None:
    """Return the reason if Slurm does not measure the memory of jobs, else None."""
    try:
        plugin = configuration().get("JobAcctGatherType", "")
    except ClusterError as error:
        return f"Slurm does not answer: {error}"
    return "Slurm gathers no memory here (JobAcctGatherType)" if "jobacct_gather/none" in plugin else None


def answer(*command: str, timeout_s: float = _COMMAND_S) -> str:
    """Run a command of Slurm and return its output. Raises ClusterError with the command and its message."""
    done = _run(command, timeout_s)
    if done.returncode:
        raise ClusterError(f"`{shlex.join(command)}` failed: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def _ask(*command: str) -> str | None:
    try:
        return answer(*command)
    except ClusterError:
        return None


def _run(
    command: Sequence[str], timeout_s: float = _COMMAND_S, given: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, by default with plain numbers and times. Raises ClusterError if it cannot run."""
    if environment is None:
        environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=timeout_s, env=environment
        )
    except OSError as error:
        raise ClusterError(f"`{shlex.join(command)}` failed: {error}") from error
    except subprocess.TimeoutExpired as error:  # without a controller, commands retry for a minute
        message = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else ""
        late = f"Slurm does not answer within {timeout_s:.0f} s (`{shlex.join(command)}`)"
        raise ClusterError(fault_in_slurm(message) or late) from error


def _known(field: str) -> str | None:
    return None if field in ("", "(null)", "Unknown", "N/A") else field


def _remedy(message: str) -> str:
    """Return valid values for an option that Slurm rejected; empty if unknown."""

    def listed(field: str) -> str:
        return ", ".join(sorted(set(re.split(r"[,\s]+", _ask("sinfo", "-h", "-o", field) or "")) - {""}))

    if "partition" in message.lower() and (names := listed("%R")):
        return f"--queue: the queues (partitions) here are {names}."
    if ("constraint" in message or "feature" in message.lower()) and (names := listed("%f")):
        return f"--constraints: the features of the nodes here are {names}."
    if "unrecognized option" in message:
        return "--extra_submit_flag takes options of sbatch: `sbatch --help` lists them."
    return ""
