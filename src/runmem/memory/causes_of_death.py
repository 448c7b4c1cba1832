"""Why a worker process ended: from the log of its Dask nanny, its exit status, and the kernel's counters."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from runmem.deaths import Cause, Death
from runmem.memory.kernel_kills import KernelKill
from runmem.units import format_bytes

__all__ = ["Kills", "death_by_exit", "death_by_signal", "death_in_log", "death_of_process", "in_limited_address_space"]

_SIGNAL = re.compile(r"Worker process (\d+) was killed by signal (\d+)")
_EXITED = re.compile(r"Worker process (\d+) exited with status (\d+)")
_BUDGET = re.compile(r"\(pid=(\d+)\) exceeded (\d+)% memory budget")
_WORKER = "the worker process"
_CRASHES = {
    signal.SIGSEGV: "a segmentation fault", signal.SIGBUS: "a bus error", signal.SIGFPE: "an arithmetic error",
    signal.SIGILL: "an illegal instruction", signal.SIGSYS: "a forbidden system call",
}  # fmt: skip


class Kills(Protocol):
    """Knows of kills by the kernel, see `runmem.memory.kernel_kills.KernelKills`."""

    @property
    def are_counted(self) -> bool:
        """Whether the kernel counts its kills."""

    def last(self) -> KernelKill | None:
        """Return the kill since the last look."""


def death_in_log(
    message: str, kills: Kills, limit_of: Callable[[int], int | None] = lambda pid: None
) -> tuple[int, Death] | None:
    """Return (process id, death) if a line of a nanny's log reports one, else None.

    Parameters
    ----------
    kills : Kills
        The kernel's counters; looked at only if the line reports signal 9.
    limit_of : callable
        Takes a process id; returns the memory limit that its nanny has for it, in bytes, or None.
    """
    if match := _BUDGET.search(message):
        return int(match[1]), _death_by_nanny(int(match[2]), limit_of(int(match[1])))
    if match := _SIGNAL.search(message):
        return int(match[1]), death_by_signal(int(match[2]), kills)
    if match := _EXITED.search(message):
        return int(match[1]), death_by_exit(int(match[2]))
    return None


def _death_by_nanny(percent: int, limit_bytes: int | None) -> Death:
    of_limit = "of its memory limit" + (f" of {format_bytes(limit_bytes)}" if limit_bytes else "")
    return Death(
        Cause.NANNY_LIMIT,
        f"Dask's nanny ended the worker: it used more than {percent} % {of_limit}",
        limit_bytes=limit_bytes,
        limit_owner="Dask's nanny (--worker_memory; `memory_limit` in plain Dask)",
        at_least_bytes=None if limit_bytes is None else limit_bytes * percent // 100,
    )


def death_of_process(code: int, kills: Kills) -> Death:
    """Return the death of a worker process with this exit code, that of `multiprocessing`; before it ran a task."""
    if code < 0:
        return death_by_signal(-code, kills)
    return Death(Cause.EXIT, f"the worker process exited with status {code}", status=code)


def death_by_signal(number: int, kills: Kills, what: str = _WORKER) -> Death:
    """Return the death of a process by a signal.

    Parameters
    ----------
    what : str
        The process, for the sentence.
    """
    killed = f"{what} was killed by signal {number}"
    if number == signal.SIGKILL:
        if (kill := kills.last()) is not None:
            ended = "the worker" if what == _WORKER else what
            words = f"the kernel's out-of-memory killer ended {ended} (signal 9): {kill.place}"
            return Death(kill.cause, words, number, None, kill.limit_bytes, kill.limit_owner)
        if kills.are_counted:
            return Death(Cause.SIGKILL, f"{killed}, and not by the kernel for lack of memory: somebody sent it", number)
        unclear = "the kernel of this node does not count its kills for lack of memory"
        return Death(Cause.SIGKILL, killed, number, missing=unclear)
    if number == signal.SIGABRT:
        return Death(Cause.ABORT, f"{killed} (abort)", number)
    if number in _CRASHES:
        return Death(Cause.CRASH, f"{killed} ({_CRASHES[signal.Signals(number)]})", number)
    name = signal.Signals(number).name if number in set(signal.Signals) else None
    return Death(Cause.SIGNAL, f"{killed} ({name})" if name else killed, number)


def death_by_exit(status: int, what: str = _WORKER) -> Death:
    """Return the death of a process that has ended by itself while it ran a task."""
    words = f"{what} exited with status {status}: the task, or a library that it calls, has ended it"
    return Death(Cause.EXIT, words, status=status)


def in_limited_address_space(death: Death, limit_bytes: int | None) -> Death:
    """Return the death of a process whose address space was limited to `limit_bytes`, None if it was not."""
    if limit_bytes is None or death.cause not in (Cause.CRASH, Cause.ABORT, Cause.EXIT):
        return death
    limit = f"its address space was limited to {format_bytes(limit_bytes)} (`ulimit -v`)"
    return replace(
        death,
        words=f"{death.words}; {limit}, so an allocation may have failed",
        limit_bytes=limit_bytes,
        limit_owner="RLIMIT_AS (`ulimit -v`)",
    )
