"""Where the process of a command stands until every method is ready: it says its number, waits, and goes on.

Nothing of the command goes unmeasured then, and nothing of what it waits in is left when it begins.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JobGate", "Stander"]

# Of a job. On the host of the trial it waits at a named pipe, which starts no process; elsewhere, or where the step has
# several tasks, it looks for a file, since a pipe does not reach other hosts. $0 is the folder, $1 the trial's boot.
_SCRIPT = """
read -r boot </proc/sys/kernel/random/boot_id
tasks=${SLURM_STEP_NUM_TASKS:-1} how=file
[ "$boot" != "$1" ] || [ "$tasks" != 1 ] || how=pipe
echo "$$ $SLURM_JOB_ID ${SLURM_STEP_ID:-batch} $tasks $how" >"$0/says-${SLURM_PROCID:-0}"
if [ "$how" = pipe ]; then read -r go <"$0/go"; else until [ -e "$0/open" ]; do sleep 0.1; done; fi
shift
exec "$@"
"""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Stander:
    """The process that stands at the gate.

    Attributes
    ----------
    pid : int
        Its number where it runs.
    job, step : str
        ``12`` and ``0``, or ``batch``.
    tasks : int
        Of the step.
    unseen : str or None
        Why the processes of this machine are not those of the command.
    """

    pid: int
    job: str
    step: str
    tasks: int
    unseen: str | None


class JobGate:
    """The gate of a command in a job; its folder must be the same on the node of the job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_pipe = False
        os.mkfifo(folder / "go", 0o600)

    def around(self, command: Sequence[str]) -> list[str]:
        """Return what stands at the gate and becomes `command`."""
        try:
            boot = _BOOT.read_text().strip()
        except OSError:
            boot = "unknown"
        return ["/bin/sh", "-c", _SCRIPT, str(self._folder), boot, *command]

    def stander(self) -> Stander | None:
        """Return who stands at the gate, None while nobody does."""
        try:
            text = (self._folder / "says-0").read_text()
        except OSError:
            return None
        if not text.endswith("\n"):
            return None
        pid, job, step, tasks, how = text.split()
        self._by_pipe = how == "pipe"
        return Stander(int(pid), job, step, int(tasks), self._unseen(int(pid), int(tasks)))

    def _unseen(self, pid: int, tasks: int) -> str | None:
        if tasks > 1:
            return f"the step has {tasks} tasks, and only one of them could be watched"
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            words = []
        return (
            None if os.fsencode(self._folder) in words else "the job runs out of sight: on another host, or contained"
        )

    def open(self, has_ended: Callable[[], bool]) -> None:
        """Let it go; returns when it has gone, or the job has ended."""
        (self._folder / "open").touch()
        while self._by_pipe:
            with contextlib.suppress(OSError):  # ENXIO: it has said its number, and has not come to the pipe yet
                descriptor = os.open(self._folder / "go", os.O_WRONLY | os.O_NONBLOCK)
                os.write(descriptor, b"go\n")
                os.close(descriptor)
                return
            if has_ended():
                return
            time.sleep(_PAUSE_S)
