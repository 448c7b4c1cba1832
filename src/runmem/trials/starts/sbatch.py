"""`sbatch`: a batch job, the command in place of its script."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import ClassVar

from runmem.errors import ClusterError
from runmem.slurm.client import JobState, job_state, submit
from runmem.trials.outcome import Site
from runmem.trials.starts.barrier import WaitingProcess
from runmem.trials.starts.contract import StartError
from runmem.trials.starts.slurm_job import SlurmJob, without_job

__all__ = ["Sbatch"]

_LOOK_S = 0.2
_PATIENCE_S = 300.0  # a controller that is restarted does not answer for a while


class Sbatch(SlurmJob):
    """Starts the command as the batch step of a job: no shell is left around it, and its exit code is the job's."""

    name: ClassVar[str] = "sbatch"
    program: ClassVar[str] = "sbatch"
    _number = ""
    _answered_s = 0.0

    def begin(self, argv: Sequence[str], name: str, site: Site) -> None:
        """Submit the job."""
        script = f"#!/bin/sh\nexec {shlex.join(argv)}\n"
        try:
            self._number = submit(script, self.options(name, site), without_job())
        except ClusterError as error:
            raise StartError(str(error)) from error
        self._answered_s = time.monotonic()

    def has_ended(self) -> bool:
        """Ask the controller whether the job is over."""
        state = self._state()
        return state is not None and state.has_ended

    def finish(self) -> int:
        """Wait until the controller says that the job is over, and return its exit code."""
        while (state := self._state()) is None or not state.has_ended:
            time.sleep(_LOOK_S)
        return state.exit_code if state.exit_code is not None else 1

    def _state(self) -> JobState | None:
        if (state := job_state(self._number)) is not None:
            self._answered_s = time.monotonic()
        elif time.monotonic() - self._answered_s > _PATIENCE_S:
            raise StartError(f"Slurm has not answered how job {self._number} is for {_PATIENCE_S:.0f} s")
        return state

    def number(self, waiting: WaitingProcess) -> str:
        """Give the job's number: all its steps are the command's."""
        return self._number

    def message(self) -> str:
        """Describe how the job ended, as the controller has it."""
        state = self._state()
        return "" if state is None else f"{state}, exit code {state.exit_code}"
