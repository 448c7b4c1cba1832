"""`sstat`: the memory that Slurm shows of a running job."""

from __future__ import annotations

import threading

from runmem.slurm.client import missing_command, running_steps, why_no_memory
from runmem.trials.methods.contract import JOB_STARTS, Method, MethodColumn, Reading
from runmem.trials.methods.sacct import HIGH
from runmem.trials.outcome import CommandOutcome, Site

__all__ = ["Sstat"]

_LEAST_INTERVAL_S = 1.0  # each poll asks the controller, and the daemon of every node of the job
_LOW = "polled: misses peaks between two polls, and the end of the job"


class Sstat(Method):
    """Poll ``sstat`` for the highest MaxRSS and AveRSS.

    Process or tree: all processes of a task together; of several tasks the largest (MaxRSS) or the mean (AveRSS).
    AveRSS is of Slurm's last poll, so memory freed before is not in it (seen on 22.05).
    Kind: sample. Interval: one second, or the trial's interval if longer, but not more often than Slurm polls.

    Parameters
    ----------
    least_interval_s : float, optional
        Shortest time between polls.
    """

    name = "sstat"
    columns = (
        MethodColumn(
            "sstat MaxRSS",
            "tree",
            "sample",
            "highest MaxRSS of a step that sstat showed",
            low=_LOW,
            high=HIGH,
        ),
        MethodColumn(
            "sstat AveRSS",
            "tree",
            "average",
            "highest AveRSS of a step that sstat showed, the mean over its tasks",
            low=_LOW + "; it is of the last poll, and the mean over the tasks hides a large one",
            high=HIGH,
        ),
    )
    assumptions = "Slurm gathers memory (JobAcctGatherType), and the job is this user's."
    limitations = (
        "A job of less than a second may never be shown. Slurm answers with its last poll, so a value may be old. "
        "With jobacct_gather/cgroup file-backed pages are missing."
    )
    starts = JOB_STARTS

    def __init__(self, least_interval_s: float = _LEAST_INTERVAL_S) -> None:
        self._interval_s = self._least_interval_s = least_interval_s
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._highest: dict[str, int] = {}
        self._samples = 0
        self._reason: str | None = None

    def available(self) -> str | None:
        return missing_command("sstat") or why_no_memory()

    def prepare(self, site: Site) -> None:
        self._interval_s = max(site.interval_s, self._least_interval_s)

    def watch_job(self, job: str) -> None:
        self._thread = threading.Thread(target=self._run, args=(job,), name="runmem-trial-sstat", daemon=True)
        self._thread.start()

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        self._end.set()
        if self._thread is None:
            return self.missing("there was no job")
        self._thread.join()
        if not self._samples:
            return self.missing(self._reason or "sstat never showed the memory of the job: it ended too soon")
        return [
            Reading(column.name, self._highest.get(column.name), f"{self._samples} samples") for column in self.columns
        ]

    def _run(self, job: str) -> None:
        while not self._end.wait(self._interval_s):
            self._sample(job)

    def _sample(self, job: str) -> None:
        try:
            steps = running_steps(job)
        except ValueError as error:
            self._reason = str(error)
            return
        for step in steps:
            for column, size in (("sstat MaxRSS", step.max_rss_bytes), ("sstat AveRSS", step.ave_rss_bytes)):
                if size is not None:
                    self._highest[column] = max(size, self._highest.get(column, 0))
        self._samples += any(step.max_rss_bytes is not None for step in steps)
