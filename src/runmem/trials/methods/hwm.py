"""`hwm`: the kernel's high-water mark of every process, read at its exit."""

from __future__ import annotations

import ctypes
import os

from runmem.trials.methods.contract import ANY_START, Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome

__all__ = ["HighWaterMark"]

_PTRACE_SEIZE = 0x4206


class HighWaterMark(Method):
    """Read VmHWM of every process of the tree as it exits: however short a peak, it is not missed."""

    name = "hwm"
    columns = (
        MethodColumn(
            "hwm",
            "process",
            "peak",
            "VmHWM of the largest process, read at its exit",
            low="exec resets the mark of a process",
            high="a process that was forked and did not call exec shows its parent's pages",
        ),
        MethodColumn(
            "hwm sum",
            "tree",
            "peak",
            "sum of the VmHWM of all processes, whenever each had it",
            low="exec resets the mark of a process",
            high="adds peaks of different times, and shared pages once for each process",
        ),
    )
    assumptions = "The processes of the command may be traced (ptrace)."
    limitations = (
        "Each process is stopped five times in its life, and each thread three times, for about 50 microseconds: this "
        "slows down a command of many short processes, which the method then measures in separate executions. Memory "
        "of a process from before exec is not in its mark. A command that traces processes itself (a debugger, strace) "
        "fails. A process that resets its mark hides its earlier peak. Kernels from 6.2 to 6.16 count pages in "
        "batches: the mark may be low by some hundred KiB."
    )
    starts = ANY_START
    watches = True
    traces = True

    def available(self) -> str | None:
        if not os.path.exists("/proc/self/status"):
            return "there is no /proc here"
        libc = ctypes.CDLL(None, use_errno=True)
        waits, go = os.pipe()
        child = os.fork()
        if not child:
            os.close(go)
            os.read(waits, 1)
            os._exit(0)
        try:
            failed = libc.ptrace(_PTRACE_SEIZE, child, None, None) < 0
            return f"processes cannot be traced here: {os.strerror(ctypes.get_errno())}" if failed else None
        finally:
            os.close(go)
            os.close(waits)
            os.waitpid(child, 0)

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        marks = [process.peak_bytes for process in outcome.processes if process.peak_bytes is not None]
        if not marks:
            return self.missing(outcome.reasons.get(self.name, "no process of the command was traced to its end"))
        lacking = len(outcome.processes) - len(marks)
        reason = f"lower bound: {lacking} of {len(outcome.processes)} processes could not be read" if lacking else None
        return [
            Reading("hwm", max(marks), reason, bool(lacking)),
            Reading("hwm sum", sum(marks), reason, bool(lacking)),
        ]
