"""`hwm`: the kernel's high-water mark of every process, read at its exit."""

from __future__ import annotations

import ctypes
import os
from typing import ClassVar

from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.outcome import Outcome

__all__ = ["HighWaterMark"]

_PTRACE_SEIZE = 0x4206


class HighWaterMark(Method):
    """VmHWM of each process of the tree, at the moment of its exit: nothing shorter than a sample is missed."""

    name: ClassVar[str] = "hwm"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "hwm",
            "process",
            "peak",
            "VmHWM of the largest process, read at its exit",
            low="a process that executed another program lost its mark",
            high="a process that forked without executing shows its parent's pages",
        ),
        Column(
            "hwm sum",
            "tree",
            "peak",
            "sum of the VmHWM of all processes, whenever each had it",
            low="a process that executed another program lost its mark",
            high="adds peaks of different times, and shared pages once a process",
        ),
    )
    assumptions: ClassVar[str] = "The processes of the command may be traced (ptrace)."
    limitations: ClassVar[str] = (
        "Each process is stopped five times in its life, and each thread three times, at some 50 microseconds each: a "
        "command of many short processes is held up, and then this method has executions of its own. Memory "
        "that a process had before it executed another program is not in its mark. A command that traces processes "
        "itself (a debugger, strace) fails under it. A process that resets its mark hides what it had before. Kernels "
        "from 6.2 to 6.16 count pages in batches: the mark may be low by some hundred KiB."
    )
    starts: ClassVar[frozenset[str]] = frozenset({"local", "srun", "sbatch"})
    watches: ClassVar[bool] = True
    traces: ClassVar[bool] = True

    def available(self) -> str | None:
        """Return why processes cannot be traced here."""
        if not os.path.exists("/proc/self/status"):
            return "there is no /proc here"
        libc = ctypes.CDLL(None, use_errno=True)
        hold, go = os.pipe()
        child = os.fork()
        if not child:
            os.close(go)
            os.read(hold, 1)
            os._exit(0)
        try:
            failed = libc.ptrace(_PTRACE_SEIZE, child, None, None) < 0
            return f"processes cannot be traced here: {os.strerror(ctypes.get_errno())}" if failed else None
        finally:
            os.close(go)
            os.close(hold)
            os.waitpid(child, 0)

    def collect(self, outcome: Outcome) -> list[Reading]:
        """Return the largest mark and the sum of all."""
        marks = [process.peak_bytes for process in outcome.processes if process.peak_bytes is not None]
        if not marks:
            return self.missing(outcome.reasons.get(self.name, "no process of the command was followed to its end"))
        lacking = len(outcome.processes) - len(marks)
        reason = f"lower bound: {lacking} of {len(outcome.processes)} processes could not be read" if lacking else None
        return [
            Reading("hwm", max(marks), reason, bool(lacking)),
            Reading("hwm sum", sum(marks), reason, bool(lacking)),
        ]
