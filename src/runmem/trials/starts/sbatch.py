"""`sbatch`: a batch job whose script executes the command."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

from runmem.errors import ClusterError
from runmem.slurm.client import JobState, job_state, submit
from runmem.trials.outcome import Site
from runmem.trials.starts.barrier import WaitingProcess
from runmem.trials.starts.contract import StartError
from runmem.trials.starts.slurm_job import SlurmJob, without_job

__all__ = ["Sbatch"]

_END_POLL_S = 0.2
_CONTROLLER_TIMEOUT_S = 300.0  # a controller that restarts does not answer for a while


class Sbatch(SlurmJob):
    """Start the command as the batch step of a job: no shell remains around it, and its exit code is the job's."""

    name = "sbatch"
    program = "sbatch"
    _job_id = ""
    _answered_s = 0.0

    def begin(self, argv: Sequence[str], name: str, site: Site) -> None:
        script = f"#!/bin/sh\nexec {shlex.join(argv)}\n"
        try:
            self._job_id = submit(script, self.options(name, site), without_job())
        except ClusterError as error:
            raise StartError(str(error)) from error
        self._answered_s = time.monotonic()

    def has_ended(self) -> bool:
        state = self._state()
        return state is not None and state.has_ended

    def finish(self) -> int:
        while (state := self._state()) is None or not state.has_ended:
            time.sleep(_END_POLL_S)
        return state.exit_code if state.exit_code is not None else 1

    def _state(self) -> JobState | None:
        if (state := job_state(self._job_id)) is not None:
            self._answered_s = time.monotonic()
        elif time.monotonic() - self._answered_s > _CONTROLLER_TIMEOUT_S:
            silence = f"for {_CONTROLLER_TIMEOUT_S:.0f} s"
            raise StartError(f"Slurm has not reported the state of job {self._job_id} {silence}")
        return state

    def job_id(self, waiting: WaitingProcess) -> str:
        """Return the id of the job, of which all steps belong to the command."""
        return self._job_id

    def message(self) -> str:
        state = self._state()
        return "" if state is None else f"{state}, exit code {state.exit_code}"
