"""`srun`: a job step, whose output and exit code srun returns."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from runmem.trials.outcome import Site, exit_code_of
from runmem.trials.starts.barrier import WaitingProcess
from runmem.trials.starts.slurm_job import SlurmJob

__all__ = ["Srun"]

_SIGNAL_TIMEOUT_S = 15.0


class Srun(SlurmJob):
    """Start the command with ``srun --ntasks=1``: as a job, or as a step of the job that the trial runs in."""

    name = "srun"
    program = "srun"
    _srun: subprocess.Popen[bytes] | None = None

    def begin(self, argv: Sequence[str], name: str, site: Site) -> None:
        """Start srun; if Slurm refuses, srun ends."""
        self._messages = site.folder / "srun"
        command = ["srun", "--input=none", *self.options(name, site), *argv]
        with self._messages.open("wb") as messages:
            self._srun = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, start_new_session=True
            )

    def has_ended(self) -> bool:
        return self._srun is None or self._srun.poll() is not None

    def finish(self) -> int:
        assert self._srun is not None
        return exit_code_of(self._srun.wait())

    def job_id(self, waiting: WaitingProcess) -> str:
        return f"{waiting.job}.{waiting.step}"

    def message(self) -> str:
        return self._messages.read_text(errors="replace").strip()

    def abandon(self) -> None:
        """End srun, and so the step of a job that continues: srun forwards SIGTERM to the command; SIGKILL follows."""
        if self._srun is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._srun.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._srun.wait(_SIGNAL_TIMEOUT_S)
                return
