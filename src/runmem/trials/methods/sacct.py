"""`sacct`: what Slurm's accounting keeps of a job."""

from __future__ import annotations

import time
from typing import ClassVar

from runmem.errors import ClusterError
from runmem.slurm.client import StepMemory, answer, missing_command, recorded_steps, why_no_memory
from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.outcome import Outcome
from runmem.units import format_bytes

__all__ = ["Sacct"]

_RECORD_S = 15.0  # slurmdbd gets the record of a step some tenths of a second after its end, and of a busy site later
_POLL_INTERVAL_S = 0.25
_POLLED = "polled (JobAcctGatherFrequency): misses what comes and goes between two looks"
_HIGH = "where Slurm reads /proc, shared pages count once a process"


class Sacct(Method):
    """MaxRSS and AveRSS of the steps of the job, and of the batch step alone.

    Process or tree: all processes of a task together; of several tasks the largest (MaxRSS) or the mean (AveRSS).
    Kind: the highest of Slurm's polls, of which there is one each `JobAcctGatherFrequency` seconds (30 unless set).

    Parameters
    ----------
    record_s : float, optional
        How long the record of the job is waited for.
    """

    name: ClassVar[str] = "sacct"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "sacct MaxRSS",
            "tree",
            "sample",
            "sacct: MaxRSS of the largest step",
            low=_POLLED + "; file-backed pages are missing where Slurm reads a control group",
            high=_HIGH,
        ),
        Column(
            "sacct AveRSS",
            "tree",
            "average",
            "sacct: AveRSS of the largest step, the mean over its tasks",
            low=_POLLED + "; the mean over the tasks of a step hides the large one",
            high=_HIGH,
        ),
        Column(
            "sacct batch",
            "tree",
            "sample",
            "sacct: MaxRSS of the batch step alone, its first line with a number",
            low="what a job starts with srun is in steps of its own, and the batch step is the wrapper; " + _POLLED,
            high=_HIGH,
        ),
    )
    assumptions: ClassVar[str] = "Slurm keeps accounts (AccountingStorageType) and gathers memory (JobAcctGatherType)."
    limitations: ClassVar[str] = (
        "The record comes after the end of the job: it is waited for 15 s, and then there is no value. A step that "
        "ended before Slurm's first look, or was killed for memory, has MaxRSS 0 in the record, which is no value "
        "either. With jobacct_gather/cgroup it is the anonymous memory of the step's group, with jobacct_gather/linux "
        "the sum of the resident set sizes of its processes."
    )
    starts: ClassVar[frozenset[str]] = frozenset({"srun", "sbatch"})

    def __init__(self, record_s: float = _RECORD_S) -> None:
        self._record_s = record_s

    def available(self) -> str | None:
        """Explain why there are no records."""
        if (missing := missing_command("sacct")) is not None:
            return missing
        try:
            answer("sacct", "-n", "-X", "-j", "1")
        except ClusterError as error:
            return str(error)
        return why_no_memory()

    def collect(self, outcome: Outcome) -> list[Reading]:
        """Wait for the record, and read it."""
        if outcome.job is None:
            return self.missing("there was no job")
        steps = self._recorded(outcome.job)
        if not steps:
            return self.missing(
                f"the accounting has no record of job {outcome.job} after {self._record_s:.0f} s (`sacct -j "
                f"{outcome.job}` may have it later)"
            )
        batch = [step for step in steps if step.name == "batch"]
        partial = len([step for step in steps if step.name != "extern"]) > 1
        values = [_reading("sacct MaxRSS", steps, "max"), _reading("sacct AveRSS", steps, "ave")]
        if not batch:
            return [*values, Reading("sacct batch", None, "what srun starts has no batch step")]
        alone = _reading("sacct batch", batch, "max")
        if partial and alone.size_bytes is not None:
            alone = Reading("sacct batch", alone.size_bytes, "the wrapper alone: the work is in other steps", True)
        return [*values, alone]

    def _recorded(self, job: str) -> list[StepMemory]:
        """Wait until the accounting has the end of all steps, and take what there is when it is too late."""
        give_up_s = time.monotonic() + self._record_s
        while True:
            found = recorded_steps(job) or []
            steps = [step for step in found if step.has_ended]
            wanted = "batch" if "." not in job else job.partition(".")[2]
            whole = len(steps) == len(found) and all(step.is_recorded for step in steps)
            if (whole and any(step.name == wanted for step in steps)) or time.monotonic() >= give_up_s:
                return steps
            time.sleep(_POLL_INTERVAL_S)


def _reading(column: str, steps: list[StepMemory], which: str) -> Reading:
    """Return the highest value of the steps, with each of them where there are several."""
    sizes = {step.name: step.max_rss_bytes if which == "max" else step.ave_rss_bytes for step in steps}
    known = {name: size for name, size in sizes.items() if size is not None}
    if killed := [step.step for step in steps if step.state == "OUT_OF_MEMORY"]:  # Slurm keeps 0 for its memory
        return Reading(column, None, f"step {killed[0]} was killed for memory (OUT_OF_MEMORY), and Slurm does not "
                                     "keep how much it had")  # fmt: skip
    if not known:
        return Reading(column, None, "the record has no memory: the step ended before Slurm looked "
                                     "(JobAcctGatherFrequency), or none is gathered (JobAcctGatherType)")  # fmt: skip
    sizes_text = ", ".join(f"{name} {format_bytes(size)}" for name, size in known.items())
    if unseen := ", ".join(name for name in sizes if name not in known and name != "extern"):
        return Reading(column, max(known.values()), f"steps: {sizes_text}; no memory of {unseen} is recorded", True)
    return Reading(column, max(known.values()), f"steps: {sizes_text}" if len(known) > 1 else None)
