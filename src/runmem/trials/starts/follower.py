"""Follows a process of a job that runs on this machine: when it ends, and each of its processes to its exit."""

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
from typing import Any

from runmem.trials.outcome import ProcessEnd

__all__ = ["Follower"]

_LAUNCHER = Path(__file__).parents[1] / "launcher.py"
_READY_S = 10.0


class Follower:
    """A process that waits at its start barrier, watched from outside of its job.

    The tracing process (`runmem.trials.launcher`) is no part of the job: in it, it would count in Slurm's accounting.

    Assumptions
    -----------
    This user may trace the process: it is the user's own and Yama's scope is 0, or the user is root.
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
        self._tracer = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps({"follow": self._pid})], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._tracer.stdout is not None
        ready = select.select([self._tracer.stdout], [], [], _READY_S)[0]
        first = json.loads(self._tracer.stdout.readline() or "{}") if ready else {}
        self.reason = first.get("reason", "the process that follows the command failed")
        if self.reason is not None:
            self._close()

    def wait(self, has_ended: Callable[[], bool], pause_s: float = 1.0) -> float | None:
        """Wait for its end and return the time of the monotonic clock; None where only the job's end was seen."""
        while not select.select([self._pidfd], [], [], pause_s)[0]:
            if has_ended():
                return None
        return time.monotonic()

    def processes(self) -> tuple[ProcessEnd, ...]:
        """Return the processes that were followed, and note `stopped_s`; call it after `wait`."""
        if self._tracer is None or self._tracer.stdout is None:
            return ()
        ready = select.select([self._tracer.stdout], [], [], _READY_S)[0]
        last: dict[str, Any] = json.loads(self._tracer.stdout.readline() or "{}") if ready else {}
        self._close()
        self.stopped_s = last.get("stopped_s")
        return tuple(
            ProcessEnd(each["pid"], each["parent"], each["name"], each["start_s"], each["end_s"], each["peak_bytes"])
            for each in last.get("processes", [])
            if each["own"]
        )

    def close(self) -> None:
        """Close all that it has open."""
        self._close()
        with contextlib.suppress(OSError):
            os.close(self._pidfd)

    def _close(self) -> None:
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        tracer.terminate()
        tracer.communicate()
