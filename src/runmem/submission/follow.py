"""Follows a job: prints its state, the reason for waiting and its output, and returns its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from runmem.errors import ClusterError
from runmem.submission.contract import BatchSystem, JobStatus

__all__ = ["follow"]

_FIRST_POLL_S, _LATER_POLL_S = 0.5, 3.0  # slower later, because a controller serves many users
_FIRST_POLLS_S = 20.0
_CONTROLLER_RESTART_S = 300.0
_LATE_OUTPUT_S = 5.0  # delay of shared file systems


class _Tail:
    """Copies new output from a file that may not exist yet."""

    def __init__(self, path: Path, to: IO[bytes]) -> None:
        self.path = path
        self._to = to
        self._offset = 0

    def copy(self) -> bool:
        """Copy new output; return True if there was any."""
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
    system: BatchSystem, job_id: str, folder: Path, out: IO[bytes], err: IO[bytes], report: Callable[[str], None]
) -> int:
    """Follow a job to its end and return its exit code.

    Parameters
    ----------
    folder : Path
        Working folder of the job.
    out, err : binary files
        Destinations of its output.
    report : callable
        Receives each message for the user.

    Raises
    ------
    ClusterError
        If the job can never start, the system does not answer for minutes, or the exit code is unknown.
    """
    tails = [_Tail(path, to) for path, to in zip(system.outputs(job_id, folder), (out, err), strict=True)]
    begun = time.monotonic()
    answered = begun
    reported: str | None = None
    while True:
        try:
            status = system.status(job_id)
            answered = time.monotonic()
        except ClusterError:
            if time.monotonic() - answered > _CONTROLLER_RESTART_S:
                raise
            time.sleep(_LATER_POLL_S)
            continue
        for tail in tails:
            tail.copy()
        if (line := _line(job_id, status)) != reported:
            reported = line
            report(line)
        if status.has_ended:
            break
        if status.never_starts:
            hints = system.hints(job_id)
            raise ClusterError(
                f"job {job_id} can never start as submitted ({status.reason}). It is still in the queue: cancel it "
                f"with `{hints['cancel']}` and submit it with other options."
            )
        time.sleep(_FIRST_POLL_S if time.monotonic() - begun < _FIRST_POLLS_S else _LATER_POLL_S)
    _copy_late_output(tails)
    if status.exit_code is None:
        raise ClusterError(f"job {job_id} has ended ({status.state}), but the batch system has no exit code of it.")
    return status.exit_code


def _copy_late_output(tails: list[_Tail]) -> None:
    """Copy output until no more arrives; wait some seconds for missing files."""
    deadline = time.monotonic() + _LATE_OUTPUT_S
    while any([tail.copy() for tail in tails]) or (
        not all(tail.path.exists() for tail in tails) and time.monotonic() < deadline
    ):
        time.sleep(0.1)


def _line(job_id: str, status: JobStatus) -> str:
    line = f"job {job_id}: {status.state}"
    if status.nodes and not status.has_ended:
        line += f" on {status.nodes}"
    if status.reason:
        line += f" ({status.reason})"
    if status.expected_start:
        line += f", expected to start at {status.expected_start}"
    if status.has_ended and status.exit_code is not None:
        line += f", exit code {status.exit_code}"
    return line
