"""How the batch jobs of workers ended that are gone, with nobody left on their node who knows why.

::

    collector: such a worker ──> death ──> thread runmem-jobs: one squeue for all jobs, until they have ended
                 │  up to 0.6 s    ^                                  │
                 v                 └──────── states ──────────────────┘
               its record
"""

from __future__ import annotations

import pwd
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from runmem.deaths import Cause, Death
from runmem.errors import ClusterError
from runmem.slurm.client import missing_command, recorded_ends, states_now
from runmem.slurm.reasons import WAITING, has_ended
from runmem.store.batch_job import SLURM, BatchJob
from runmem.units import format_bytes

__all__ = ["JobEnds"]

_PATIENCE_S = 0.6  # after the second in which a lost node may come back: the user is to know within about two
_PAUSE_S = 0.1
_COMMAND_S = 3.0


@dataclass
class JobEnd:
    """What became of a job, as far as Slurm has said.

    Attributes
    ----------
    state : str or None
        Slurm's word; None: it has not said.
    reason : str or None
        Slurm's reason for that state.
    user : str or None
        Who cancelled it.
    used_bytes : int or None
        Highest memory of a process of the job in the accounting.
    fault : str or None
        Why Slurm has not said.
    """

    state: str | None = None
    reason: str | None = None
    user: str | None = None
    used_bytes: int | None = None
    fault: str | None = None


@dataclass
class _Question:
    """What became of the job of a process; to be asked until `until_s`, or until the answer `is_final`."""

    job: BatchJob
    until_s: float
    end: JobEnd
    is_final: bool = False


class JobEnds:
    """Asks Slurm how jobs ended. Nothing here waits for Slurm, except the thread that asks.

    Parameters
    ----------
    patience_s : float, optional
        Seconds in which Slurm must have noted the end.
    """

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._questions: dict[tuple[str, int], _Question] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_asking(self) -> bool:
        """Whether an answer is expected soon."""
        return self._thread is not None

    def death(self, process: tuple[str, int], job: BatchJob, otherwise: Death) -> Death | None:
        """Return the death of a process, given as (node, process id); None: ask again soon.

        Parameters
        ----------
        otherwise : Death
            What is known without its job.
        """
        if job.system != SLURM:
            return replace(otherwise, words=f"{otherwise.words}; it ran in {job}")
        with self._lock:
            if (question := self._questions.get(process)) is None:
                question = self._questions[process] = _Question(job, time.monotonic() + self._patience_s, JobEnd())
                if self._thread is None:
                    self._thread = threading.Thread(target=self._loop, name="runmem-jobs", daemon=True)
                    self._thread.start()
            if not question.is_final and time.monotonic() < question.until_s:
                return None
            del self._questions[process]
            return death_in_job(job, question.end, otherwise)

    def _loop(self) -> None:
        while True:
            now_s = time.monotonic()
            with self._lock:
                waiting = [each for each in self._questions.values() if not each.is_final and now_s < each.until_s]
                if not waiting:
                    self._thread = None
                    return
            try:
                _ask(waiting)
            except Exception as error:
                for question in waiting:
                    question.end.fault = str(error)
            time.sleep(_PAUSE_S)


def _ask(questions: Sequence[_Question]) -> None:
    """Ask Slurm once for the jobs of all questions."""
    fault = missing_command("squeue")
    states = states_now(_numbers(questions), _COMMAND_S) if fault is None else {}
    unclear = []
    for each in questions:
        each.end.fault, each.is_final = fault, fault is not None
        if (found := states.get(each.job.number)) is None:
            continue
        each.end.state, each.end.reason = found.state, found.reason
        if found.state in ("CANCELLED", "FAILED") or (found.state == "RUNNING" and each.job.step is not None):
            unclear.append(each)
        else:
            each.is_final = found.is_waiting or found.has_ended
    if unclear:
        _ask_accounting(unclear)


def _ask_accounting(questions: Sequence[_Question]) -> None:
    """Look up who cancelled jobs, what they had used, and how steps of running jobs ended, if Slurm keeps it."""
    try:
        records = recorded_ends(_numbers(questions), _COMMAND_S)
    except (ClusterError, ValueError):
        records = {}
    for each in questions:
        number, end = each.job.number, each.end
        steps = [step for name, step in records.items() if name.startswith(f"{number}.")]
        end.used_bytes = max((step.max_rss_bytes or 0 for step in steps), default=0) or None
        if end.state == "RUNNING":
            number = f"{number}.{each.job.step}"
        if (record := records.get(number)) is not None and record.has_ended:
            end.state, end.user = record.state, None if record.user is None else _user_name(record.user)
            each.is_final = all(step.has_ended for step in steps) or "." in number
        elif not records:
            each.is_final = end.state != "RUNNING"


def _numbers(questions: Iterable[_Question]) -> list[str]:
    return sorted({each.job.number for each in questions})


def _user_name(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError, OverflowError):
        return number


def death_in_job(job: BatchJob, end: JobEnd, otherwise: Death) -> Death:
    """Return the death of a process in a job of Slurm.

    Parameters
    ----------
    otherwise : Death
        What is known without the job.
    """
    state = end.state
    if state is None:
        why = end.fault or "Slurm did not say in time how that ended"
        return replace(otherwise, words=f"{otherwise.words}; it ran in {job} ({why})")
    if state == "OUT_OF_MEMORY":
        may = f": it may use {format_bytes(job.memory_bytes)} on a node" if job.memory_bytes else ""
        return _for_memory(job, f"Slurm ended job {job.number} for its memory ({state}){may}", otherwise)
    if state == "TIMEOUT":
        words, owner = f"Slurm ended job {job.number} at its time limit ({state})", f"Slurm's job {job.number} (--time)"
        return replace(otherwise, cause=Cause.TIME_LIMIT, words=words, limit_owner=owner)
    if state in WAITING:
        words = f"Slurm ended job {job.number} and put it back into the queue ({state}): a node of it failed, or a job "
        return replace(otherwise, cause=Cause.NODE_GONE, words=words + "of higher priority needed its place")
    if not has_ended(state):
        return replace(otherwise, words=f"{otherwise.words}; {job} is still {state}")
    by = "" if end.user is None else f" by {end.user}"
    reason = "" if state in _ENDS or end.reason in (None, "None") else f", {end.reason}"
    words = f"{_ENDS.get(state, '{job} has ended').format(job=job, by=by)} ({state}{reason})"
    if state in ("FAILED", "CANCELLED") and job.memory_bytes and (end.used_bytes or 0) > job.memory_bytes:
        # Without control groups Slurm polls the memory of jobs, and some versions do not call that end OUT_OF_MEMORY.
        used, may = format_bytes(end.used_bytes), format_bytes(job.memory_bytes)
        return _for_memory(
            job, f"{words}, as it seems for its memory: it had used {used}, and may use {may}", otherwise
        )
    return replace(otherwise, cause=Cause.NODE_GONE, words=words)


def _for_memory(job: BatchJob, words: str, otherwise: Death) -> Death:
    owner = f"Slurm's job {job.number} (--mem, --mem-per-cpu)"
    return replace(otherwise, cause=Cause.SLURM_LIMIT, words=words, limit_bytes=job.memory_bytes, limit_owner=owner)


_ENDS = {
    "CANCELLED": "{job} was cancelled{by}",
    "PREEMPTED": "Slurm ended job {job.number} for one of higher priority",
    "NODE_FAIL": "a node of {job} failed",
    "DEADLINE": "Slurm ended job {job.number} at its deadline",
}
