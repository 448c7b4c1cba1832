"""Follow a process of a job on this machine: wait for its end, and trace its descendants."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from runmem.reading import JsonObject
from runmem.trials.outcome import ProcessEnd

__all__ = ["Follower", "start_launcher"]

_LAUNCHER = Path(__file__).parents[1] / "launcher.py"
_TRACER_TIMEOUT_S = 10.0


def start_launcher(order: JsonObject) -> subprocess.Popen[str]:
    """Start `runmem.trials.launcher` with an order, in a new session."""
    command = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(order)]
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, text=True, stdin=none, stdout=pipe, stderr=pipe, start_new_session=True)


class Follower:
    """Follow a process that waits at its start barrier, from outside its job.

    The tracing process (`runmem.trials.launcher`) is not part of the job, where it would count in Slurm's accounting.

    Assumptions
    -----------
    This user may trace the process: the user owns it and Yama's scope is 0, or the user is root.
    """

    def __init__(self, pid: int, trace: bool) -> None:
        self.reason: str | None = None
        self.stopped_s: float | None = None
        self._pidfd = os.pidfd_open(pid)
        self._pid = pid
        self._tracer: subprocess.Popen[str] | None = None
        if trace:
            self._follow()

    def _follow(self) -> None:
        self._tracer = start_launcher({"follow": self._pid})
        self.reason = self._next_report().get("reason", "the process that traces the command failed")
        if self.reason is not None:
            self._close()

    def _next_report(self) -> JsonObject:
        """Return the next line of the tracer, empty if it writes none in time."""
        assert self._tracer is not None
        assert self._tracer.stdout is not None
        ready = select.select([self._tracer.stdout], [], [], _TRACER_TIMEOUT_S)[0]
        line: JsonObject = json.loads(self._tracer.stdout.readline() or "{}") if ready else {}
        return line

    def wait(self, has_ended: Callable[[], bool], pause_s: float = 1.0) -> float | None:
        """Wait for the end of the process and return the monotonic time; None if only the end of the job was seen."""
        while not select.select([self._pidfd], [], [], pause_s)[0]:
            if has_ended():
                return None
        return time.monotonic()

    def processes(self) -> tuple[ProcessEnd, ...]:
        """Return the traced processes and set `stopped_s`; call it after `wait`."""
        if self._tracer is None:
            return ()
        last = self._next_report()
        self._close()
        self.stopped_s = last.get("stopped_s")
        return ProcessEnd.from_launcher(last.get("processes", []))

    def close(self) -> None:
        """Stop the tracer and close the descriptors."""
        self._close()
        with contextlib.suppress(OSError):
            os.close(self._pidfd)

    def _close(self) -> None:
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        tracer.terminate()
        tracer.communicate()
