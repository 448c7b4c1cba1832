"""Holds the process of a command at a start barrier until every method is ready, so that nothing goes unmeasured.

The shell that writes its process number and waits becomes the command: nothing of it is left when the command begins.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JobBarrier", "WaitingProcess"]

# Of a job. On the host of the trial it waits at a named pipe, which starts no process; elsewhere, or where the step has
# several tasks, it looks for a file, since a pipe does not reach other hosts. $0 is the folder, $1 the trial's boot.
_SCRIPT = """
read -r boot </proc/sys/kernel/random/boot_id
tasks=${SLURM_STEP_NUM_TASKS:-1} how=file
[ "$boot" != "$1" ] || [ "$tasks" != 1 ] || how=pipe
echo "$$ $SLURM_JOB_ID ${SLURM_STEP_ID:-batch} $tasks $how" >"$0/arrived-${SLURM_PROCID:-0}"
if [ "$how" = pipe ]; then read -r go <"$0/go"; else until [ -e "$0/open" ]; do sleep 0.1; done; fi
shift
exec "$@"
"""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class WaitingProcess:
    """The process that waits at the barrier: its number where it runs; its job (``12``), step (``batch``) and tasks.

    `unseen` tells why the processes of this machine are not those of the command; None if they are.
    """

    pid: int
    job: str
    step: str
    tasks: int
    unseen: str | None


class JobBarrier:
    """The start barrier of a command in a job; its folder must be the same on the node of the job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_pipe = False
        os.mkfifo(folder / "go", 0o600)

    def around(self, command: Sequence[str]) -> list[str]:
        """Write the command that waits at the barrier and becomes `command`."""
        try:
            boot = _BOOT.read_text().strip()
        except OSError:
            boot = "unknown"
        return ["/bin/sh", "-c", _SCRIPT, str(self._folder), boot, *command]

    def waiting_process(self) -> WaitingProcess | None:
        """Find the process that waits at the barrier, None while there is none."""
        try:
            text = (self._folder / "arrived-0").read_text()
        except OSError:
            return None
        if not text.endswith("\n"):
            return None
        pid, job, step, tasks, how = text.split()
        self._by_pipe = how == "pipe"
        return WaitingProcess(int(pid), job, step, int(tasks), self._unseen(int(pid), int(tasks)))

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
        """Let the process start; returns when it has started, or the job has ended."""
        (self._folder / "open").touch()
        while self._by_pipe:
            with contextlib.suppress(OSError):  # ENXIO: it has written its number and not opened the pipe yet
                descriptor = os.open(self._folder / "go", os.O_WRONLY | os.O_NONBLOCK)
                os.write(descriptor, b"go\n")
                os.close(descriptor)
                return
            if has_ended():
                return
            time.sleep(_PAUSE_S)
