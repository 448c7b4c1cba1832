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
from collections.abc import Iterable
from dataclasses import dataclass, replace

from runmem.deaths import Cause, Death
from runmem.errors import ClusterError
from runmem.slurm.client import JobState, missing_command, recorded_states, states_now
from runmem.slurm.reasons import state_name
from runmem.store.batch_job import SLURM, BatchJob
from runmem.units import format_bytes

__all__ = ["JobEnds", "death_in_job"]

_PATIENCE_S = 0.6  # after the second in which a lost node may come back: the user is to know within about two
_PAUSE_S = 0.1
_COMMAND_S = 3.0


@dataclass
class _Question:
    """What became of the job of a process: its state and, if it was cancelled, by whom, or why that is not known.

    The answer is final if `is_final`.
    """

    job: BatchJob
    until_s: float
    state: JobState | None = None
    user: str | None = None
    fault: str | None = None
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
                question = self._questions[process] = _Question(job, time.monotonic() + self._patience_s)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._loop, name="runmem-jobs", daemon=True)
                    self._thread.start()
            if not question.is_final and time.monotonic() < question.until_s:
                return None
            del self._questions[process]
            return death_in_job(job, question.state, question.user, question.fault, otherwise)

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
                    question.fault = str(error)
            time.sleep(_PAUSE_S)


def _ask(questions: Iterable[_Question]) -> None:
    """Ask Slurm once for the jobs of all questions."""
    fault = missing_command("squeue")
    states = states_now(sorted({each.job.number for each in questions}), _COMMAND_S) if fault is None else {}
    unclear = []
    for each in questions:
        each.fault, each.is_final = fault, fault is not None
        if (state := states.get(each.job.number)) is not None:
            each.state = state
            each.is_final = state.is_waiting or (state.has_ended and state.state != "CANCELLED")
            if state.state == "CANCELLED" or (state.state == "RUNNING" and each.job.step is not None):
                unclear.append(each)
    if unclear:
        _ask_accounting(unclear)


def _ask_accounting(questions: Iterable[_Question]) -> None:
    """Look up who cancelled jobs, and how steps of running jobs ended. Slurm may keep no accounts."""
    try:
        records = recorded_states(sorted({each.job.number for each in questions}), _COMMAND_S)
    except ClusterError:
        records = {}
    for each in questions:
        assert each.state is not None
        number = each.job.number if each.state.has_ended else f"{each.job.number}.{each.job.step}"
        record = records.get(number, "")
        recorded = JobState(each.job.number, state_name(record))
        if record and recorded.has_ended:
            each.state, each.is_final = recorded, True
            _, _, user = record.partition(" by ")
            each.user = _user_name(user) if user else None
        elif not records:
            each.is_final = each.state.has_ended


def _user_name(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError, OverflowError):
        return number


def death_in_job(job: BatchJob, state: JobState | None, user: str | None, fault: str | None, otherwise: Death) -> Death:
    """Return the death of a process in a job of Slurm that has ended so, as far as known.

    Parameters
    ----------
    state : JobState or None
        None: Slurm has not said.
    user : str or None
        Who cancelled the job.
    fault : str or None
        Why Slurm has not said.
    otherwise : Death
        What is known without the job.
    """
    if state is None:
        why = fault or "Slurm did not say in time how that ended"
        return replace(otherwise, words=f"{otherwise.words}; it ran in {job} ({why})")
    name = state.state
    if name == "OUT_OF_MEMORY":
        asked = f": it may use {format_bytes(job.memory_bytes)} on a node" if job.memory_bytes else ""
        owner = f"Slurm's job {job.number} (--mem, --mem-per-cpu)"
        words = f"Slurm ended {job} for its memory ({name}){asked}"
        return replace(otherwise, cause=Cause.SLURM_LIMIT, words=words, limit_bytes=job.memory_bytes, limit_owner=owner)
    if name == "TIMEOUT":
        words, owner = f"Slurm ended {job} at its time limit ({name})", f"Slurm's job {job.number} (--time)"
        return replace(otherwise, cause=Cause.TIME_LIMIT, words=words, limit_owner=owner)
    if state.is_waiting:
        why = "a node of it failed, or a job of higher priority needed its place"
        return _ended_by_slurm(otherwise, f"Slurm ended {job} and put it back into the queue ({name}): {why}")
    if state.has_ended:
        what = _ENDS.get(name, "{job} has ended").format(job=job, by="" if user is None else f" by {user}")
        return _ended_by_slurm(otherwise, f"{what} ({name})")
    return replace(otherwise, words=f"{otherwise.words}; for Slurm, {job} is {name} still")


def _ended_by_slurm(otherwise: Death, words: str) -> Death:
    return replace(otherwise, cause=Cause.NODE_GONE, words=words)


_ENDS = {
    "CANCELLED": "{job} was cancelled{by}",
    "PREEMPTED": "Slurm ended {job} for one of higher priority",
    "NODE_FAIL": "a node of {job} failed",
    "DEADLINE": "Slurm ended {job} at its deadline",
}
