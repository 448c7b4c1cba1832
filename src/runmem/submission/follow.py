"""Follows a job: its state and why it waits, its output, its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from runmem.errors import ClusterError
from runmem.submission.contract import BatchSystem, JobStatus

__all__ = ["follow"]

_QUICK_S, _SLOW_S = 0.5, 3.0  # between two questions: a controller serves many users
_QUICK_FOR_S = 20.0
_PATIENCE_S = 300.0  # a controller that is restarted does not answer for a while
_LATE_OUTPUT_S = 5.0  # shared file systems show what was written elsewhere with a delay


class _Tail:
    """Copies what is new in a file that may not be there yet."""

    def __init__(self, path: Path, to: IO[bytes]) -> None:
        self.path = path
        self._to = to
        self._offset = 0

    def copy(self) -> bool:
        """Copy what is new and tell whether there was any."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return False
        self._offset += len(data)
        self._to.write(data)
        self._to.flush()
        return bool(data)


def follow(
    system: BatchSystem, job_id: str, folder: Path, out: IO[bytes], err: IO[bytes], tell: Callable[[str], None]
) -> int:
    """Follow a job to its end and return its exit code.

    Parameters
    ----------
    folder : Path
        Where the job runs.
    out, err : binary files
        Where its output goes.
    tell : callable
        Takes a line for a person.

    Raises
    ------
    ClusterError
        If the job will never start, if the system does not answer for minutes, or if the exit code is not known.
    """
    tails = [_Tail(path, to) for path, to in zip(system.outputs(job_id, folder), (out, err), strict=True)]
    begun = time.monotonic()
    answered = begun
    said: str | None = None
    while True:
        try:
            status = system.status(job_id)
            answered = time.monotonic()
        except ClusterError:
            if time.monotonic() - answered > _PATIENCE_S:
                raise
            time.sleep(_SLOW_S)
            continue
        for tail in tails:
            tail.copy()
        if (line := _line(job_id, status)) != said:
            said = line
            tell(line)
        if status.ended:
            break
        if status.hopeless:
            hints = system.hints(job_id)
            raise ClusterError(
                f"job {job_id} will not start as it is ({status.reason}). It is still in the queue: "
                f"`{hints['cancel']}` takes it out; then submit it again with other options."
            )
        time.sleep(_QUICK_S if time.monotonic() - begun < _QUICK_FOR_S else _SLOW_S)
    _rest(tails)
    if status.exit_code is None:
        raise ClusterError(f"job {job_id} is over ({status.state}), and the batch system does not tell its exit code.")
    return status.exit_code


def _rest(tails: list[_Tail]) -> None:
    """Copy what is still to come, for as long as it comes; a file that is not there yet is waited for a while."""
    deadline = time.monotonic() + _LATE_OUTPUT_S
    while any([tail.copy() for tail in tails]) or (
        not all(tail.path.exists() for tail in tails) and time.monotonic() < deadline
    ):
        time.sleep(0.1)


def _line(job_id: str, status: JobStatus) -> str:
    line = f"job {job_id}: {status.state}"
    if status.nodes and not status.ended:
        line += f" on {status.nodes}"
    if status.reason:
        line += f" ({status.reason})"
    if status.expected_start:
        line += f", expected to start at {status.expected_start}"
    if status.ended and status.exit_code is not None:
        line += f", exit code {status.exit_code}"
    return line
