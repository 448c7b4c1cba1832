"""A start barrier, at which the process of a command waits until every method is ready.

A shell writes its process id, waits, and then executes the command in its place.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JobBarrier", "WaitingProcess"]

# On the host of the trial a job waits at a named pipe, which starts no process. On other hosts, or with several tasks,
# it polls for a file, since a pipe does not work across hosts. $0 is the folder, $1 the boot id of the trial's host.
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
_OPEN_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class WaitingProcess:
    """The process that waits at the barrier: its id on its host, its job (``12``), step (``batch``) and task count.

    `unseen` is the reason why the command's processes are not on this machine; None if they are.
    """

    pid: int
    job: str
    step: str
    tasks: int
    unseen: str | None


class JobBarrier:
    """The start barrier of a command in a job; the node of the job must see the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_pipe = False
        os.mkfifo(folder / "go", 0o600)

    def around(self, command: Sequence[str]) -> list[str]:
        """Return the command that waits at the barrier and then executes `command`."""
        try:
            boot = _BOOT.read_text().strip()
        except OSError:
            boot = "unknown"
        return ["/bin/sh", "-c", _SCRIPT, str(self._folder), boot, *command]

    def waiting_process(self) -> WaitingProcess | None:
        """Return the process that waits at the barrier, None if it has not arrived."""
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
        return None if os.fsencode(self._folder) in words else "the job runs on another host or in a container"

    def open(self, has_ended: Callable[[], bool]) -> None:
        """Start the waiting process; return when it has started or the job has ended."""
        (self._folder / "open").touch()
        while self._by_pipe:
            with contextlib.suppress(OSError):  # ENXIO: the process has not opened the pipe yet
                descriptor = os.open(self._folder / "go", os.O_WRONLY | os.O_NONBLOCK)
                os.write(descriptor, b"go\n")
                os.close(descriptor)
                return
            if has_ended():
                return
            time.sleep(_OPEN_POLL_S)
