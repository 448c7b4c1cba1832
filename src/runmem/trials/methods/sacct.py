"""`sacct`: the memory of a job in Slurm's accounting."""

from __future__ import annotations

import time

from runmem.errors import ClusterError
from runmem.slurm.client import StepMemory, answer, missing_command, recorded_steps, why_no_memory
from runmem.trials.methods.contract import JOB_STARTS, Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome
from runmem.units import format_bytes

__all__ = ["HIGH", "Sacct"]

_RECORD_TIMEOUT_S = 15.0  # slurmdbd receives the record some tenths of a second after a step's end, if busy later
_RECORD_POLL_S = 0.25
_POLLED = "polled (JobAcctGatherFrequency): misses peaks between two polls"
HIGH = "shared pages count once for each process if Slurm reads /proc"


class Sacct(Method):
    """Read MaxRSS and AveRSS of the steps of the job, and MaxRSS of the batch step alone.

    Process or tree: all processes of a task together; of several tasks the largest (MaxRSS) or the mean (AveRSS).
    Kind: the highest of Slurm's polls, one every `JobAcctGatherFrequency` seconds (default 30).

    Parameters
    ----------
    record_s : float, optional
        Longest wait for the record of the job.
    """

    name = "sacct"
    columns = (
        MethodColumn(
            "sacct MaxRSS",
            "tree",
            "sample",
            "sacct: MaxRSS of the largest step",
            low=_POLLED + "; file-backed pages are missing if Slurm reads a control group",
            high=HIGH,
        ),
        MethodColumn(
            "sacct AveRSS",
            "tree",
            "average",
            "sacct: AveRSS of the largest step, the mean over its tasks",
            low=_POLLED + "; the mean over the tasks of a step hides a large one",
            high=HIGH,
        ),
        MethodColumn(
            "sacct batch",
            "tree",
            "sample",
            "sacct: MaxRSS of the batch step alone, its first line with a number",
            low="work started with srun is in other steps, and the batch step is only the wrapper; " + _POLLED,
            high=HIGH,
        ),
    )
    assumptions = "Slurm keeps accounts (AccountingStorageType) and gathers memory (JobAcctGatherType)."
    limitations = (
        "The record is written after the end of the job; without one after 15 s there is no value. A step that ended "
        "before Slurm's first poll, or was killed for memory, is recorded with MaxRSS 0, which counts as no value. "
        "With jobacct_gather/cgroup it is the anonymous memory of the step's control group, with jobacct_gather/linux "
        "the sum of the resident set sizes of its processes."
    )
    starts = JOB_STARTS

    def __init__(self, record_s: float = _RECORD_TIMEOUT_S) -> None:
        self._record_s = record_s

    def available(self) -> str | None:
        if (missing := missing_command("sacct")) is not None:
            return missing
        try:
            answer("sacct", "-n", "-X", "-j", "1")
        except ClusterError as error:
            return str(error)
        return why_no_memory()

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        """Wait for the record and read it."""
        if outcome.job is None:
            return self.missing("there was no job")
        steps = self._recorded(outcome.job)
        if not steps:
            after = f"after {self._record_s:.0f} s (`sacct -j {outcome.job}` may have it later)"
            return self.missing(f"the accounting has no record of job {outcome.job} {after}")
        batch = [step for step in steps if step.name == "batch"]
        partial = len([step for step in steps if step.name != "extern"]) > 1
        values = [_reading("sacct MaxRSS", steps, "max"), _reading("sacct AveRSS", steps, "ave")]
        if not batch:
            return [*values, Reading("sacct batch", None, "a step of srun has no batch step")]
        alone = _reading("sacct batch", batch, "max")
        if partial and alone.size_bytes is not None:
            alone = Reading("sacct batch", alone.size_bytes, "the wrapper alone: the work is in other steps", True)
        return [*values, alone]

    def _recorded(self, job: str) -> list[StepMemory]:
        """Wait until the accounting has the end of all steps; at the timeout return those that it has."""
        give_up_s = time.monotonic() + self._record_s
        while True:
            found = recorded_steps(job) or []
            steps = [step for step in found if step.has_ended]
            wanted = "batch" if "." not in job else job.partition(".")[2]
            whole = len(steps) == len(found) and all(step.is_recorded for step in steps)
            if (whole and any(step.name == wanted for step in steps)) or time.monotonic() >= give_up_s:
                return steps
            time.sleep(_RECORD_POLL_S)


def _reading(column: str, steps: list[StepMemory], which: str) -> Reading:
    """Return the highest value of the steps, with a remark that lists them if there are several."""
    sizes = {step.name: step.max_rss_bytes if which == "max" else step.ave_rss_bytes for step in steps}
    known = {name: size for name, size in sizes.items() if size is not None}
    if killed := [step.step for step in steps if step.state == "OUT_OF_MEMORY"]:  # Slurm keeps 0 for its memory
        reason = f"step {killed[0]} was killed for memory (OUT_OF_MEMORY), and Slurm does not record its memory"
        return Reading(column, None, reason)
    if not known:
        reason = (
            "the record has no memory: the step ended before Slurm's first poll (JobAcctGatherFrequency), or none is "
            "gathered (JobAcctGatherType)"
        )
        return Reading(column, None, reason)
    sizes_text = ", ".join(f"{name} {format_bytes(size)}" for name, size in known.items())
    if unseen := ", ".join(name for name in sizes if name not in known and name != "extern"):
        return Reading(column, max(known.values()), f"steps: {sizes_text}; no memory of {unseen} is recorded", True)
    return Reading(column, max(known.values()), f"steps: {sizes_text}" if len(known) > 1 else None)
