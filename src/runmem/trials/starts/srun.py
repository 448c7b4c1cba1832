"""`srun`: a step of a job, whose output and exit code srun brings back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import ClassVar

from runmem.trials.outcome import Site
from runmem.trials.starts.barrier import WaitingProcess
from runmem.trials.starts.slurm_job import SlurmJob

__all__ = ["Srun"]

_PATIENCE_S = 15.0


class Srun(SlurmJob):
    """Starts the command with ``srun --ntasks=1``: a job of its own, or a step of the job that the trial runs in."""

    name: ClassVar[str] = "srun"
    program: ClassVar[str] = "srun"
    _srun: subprocess.Popen[bytes] | None = None

    def begin(self, argv: Sequence[str], name: str, site: Site) -> None:
        """Start srun; a refusal shows in its end."""
        self._messages = site.folder / "srun"
        with self._messages.open("wb") as messages:
            self._srun = subprocess.Popen(["srun", "--input=none", *self.options(name, site), *argv],
                                          stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
                                          start_new_session=True)  # fmt: skip

    def has_ended(self) -> bool:
        """Check whether srun has ended."""
        return self._srun is None or self._srun.poll() is not None

    def finish(self) -> int:
        """Wait for srun; its exit code is the command's, 128 + the signal that ended it."""
        assert self._srun is not None
        code = self._srun.wait()
        return code if code >= 0 else 128 - code

    def number(self, waiting: WaitingProcess) -> str:
        """Give the numbers of job and step."""
        return f"{waiting.job}.{waiting.step}"

    def message(self) -> str:
        """Read what srun wrote."""
        return self._messages.read_text(errors="replace").strip()

    def abandon(self) -> None:
        """End srun, and so a step in a job that goes on: srun passes SIGTERM on to the command; SIGKILL follows."""
        if self._srun is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._srun.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._srun.wait(_PATIENCE_S)
                return
