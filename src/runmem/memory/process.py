"""Memory readings of this process, from descriptors kept open because opening is slower than reading."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import sys
from typing import Protocol

__all__ = [
    "Readings", "ProcReadings", "PsutilReadings", "address_space_bytes", "address_space_limit_of", "node_free_bytes",
    "own_process", "resident_bytes_of",
]  # fmt: skip

_STATUS_BYTES = 4096  # a status file has some 1.5 kB; the user's list of groups can make it longer
_LONG_STATUS_BYTES = 1 << 20
_PR_SET_DUMPABLE = 4
_MARK = b"\nVmHWM:"  # with the newline: the first line has the process's name, which may contain anything else


class Readings(Protocol):
    """The memory readings of this process."""

    def resident_bytes(self) -> int:
        """Return the resident set size in bytes. Raises OSError or ValueError if it cannot be read."""

    def high_water_and_resident(self) -> tuple[int | None, int]:
        """Return the high-water mark of the resident set size (None if not supported) and the size, in bytes."""

    def page_faults(self) -> int | None:
        """Return the page faults of the process; None if the size may rise without them."""

    def thread_page_faults(self) -> int | None:
        """Return the page faults of the calling thread; None if they are not counted."""

    def reset_high_water_mark(self) -> None:
        """Lower the mark to the present size. Raises OSError if that is not possible."""

    def reopen(self) -> None:
        """Switch to the present process, after a fork."""


class ProcReadings:
    """Readings from ``/proc/self`` on Linux, each a single system call.

    Assumptions: ``/proc`` belongs to the namespace of this process. Limitations: kernels from 6.2 to 6.16 count pages
    in batches per processor, so a reading may be low by up to ``max(32, 2 * processors)`` pages for each processor that
    touched memory; the mark does not include child processes.

    Raises OSError if ``/proc/self`` cannot be read.
    """

    def __init__(self) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE")
        self.reopen()

    def reopen(self) -> None:
        """Open the files of the present process.

        The old descriptors are not closed: after a fork they refer to the parent, and a program that closed all of its
        descriptors (as daemons do) may have reused their numbers.
        """
        # The status file is opened first and so has the lowest number. If a program closed our descriptors and reuses
        # their numbers, the status file is the first to become unreadable, before "5" is written to a wrong file.
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._clear_refs: int | None = None

    def resident_bytes(self) -> int:
        """Return the resident set size in bytes (1.3 microseconds)."""
        try:
            return int(os.pread(self._statm, 64, 0).split(None, 2)[1]) * self._page
        except (OSError, ValueError, IndexError):
            self.reopen()
            return int(os.pread(self._statm, 64, 0).split(None, 2)[1]) * self._page

    def high_water_and_resident(self) -> tuple[int | None, int]:
        """Return the high-water mark and the resident set size in bytes, of one moment (8 microseconds)."""
        try:
            text = os.pread(self._status, _STATUS_BYTES, 0)
            at = text.index(_MARK)
            parts = text[at : at + 80].split(None, 5)
            return int(parts[1]) * 1024, int(parts[4]) * 1024
        except (OSError, ValueError, IndexError):
            return self._high_water_and_resident_again()

    def _high_water_and_resident_again(self) -> tuple[int | None, int]:
        self.reopen()
        text = os.pread(self._status, _LONG_STATUS_BYTES, 0)
        at = text.find(_MARK)
        if at < 0:  # an emulated /proc, as in some sandboxes
            return None, self.resident_bytes()
        parts = text[at : at + 80].split(None, 5)
        return int(parts[1]) * 1024, int(parts[4]) * 1024

    def page_faults(self) -> int | None:
        """Return the page faults of the process (0.7 microseconds).

        A process gets memory page by page, each with a fault: while the count is constant, the resident set size has
        not risen. (Exceptions are `userfaultfd` and the kernel's merging of small pages into huge ones, which may add
        up to 2 MiB for a merged area.)
        """
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage[6] + usage[7] or None  # minor and major; 0 in a sandbox that does not count

    def thread_page_faults(self) -> int | None:
        """Return the page faults of the calling thread (0.5 microseconds)."""
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        return usage[6] + usage[7]

    def reset_high_water_mark(self) -> None:
        """Lower the high-water mark to the present resident set size (0.5 microseconds).

        Also lowers what ``getrusage`` and ``/usr/bin/time`` report of this process.

        Raises
        ------
        OSError
            EROFS where ``/proc`` is mounted read-only, EACCES where the process may not be inspected and a call of
            ``prctl(PR_SET_DUMPABLE, 1)`` did not help, EINVAL on kernels before 4.0.
        """
        if self._clear_refs is None:
            self._clear_refs = _open_clear_refs()
        os.write(self._clear_refs, b"5")


def _open_clear_refs() -> int:
    """Open the file for the reset; if access is denied, make the process dumpable and try again.

    A process that changed its user is not dumpable and its ``/proc/self`` belongs to root.
    """
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)


class PsutilReadings:
    """Readings without ``/proc`` (macOS): the present size only.

    Limitations: there is no high-water mark that can be reset, so peaks are sampled.
    """

    def __init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        import psutil  # here: on Linux the package is not needed, and it costs 10 ms

        self._process = psutil.Process()

    def resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def high_water_and_resident(self) -> tuple[int | None, int]:
        return None, self.resident_bytes()

    def page_faults(self) -> int | None:
        """Return None: the size may rise without a page fault."""
        return None

    def thread_page_faults(self) -> int | None:
        return None

    def reset_high_water_mark(self) -> None:
        """Raise OSError, since it is not possible."""
        raise OSError(errno.ENOTSUP, f"{sys.platform} keeps no high-water mark that can be reset")


def resident_bytes_of(pid: int) -> int | None:
    """Return the resident set size of another process in bytes; None if it is gone or there is no ``/proc``."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


_own: Readings | None = None


def address_space_limit_of(pid: int) -> int | None:
    """Return the limit on the address space of a process of this user (``ulimit -v``), in bytes.

    None if there is no limit, or the system does not say (macOS), or the process has ended.
    """
    if not hasattr(resource, "prlimit"):
        return None
    try:
        limit: int = resource.prlimit(pid, resource.RLIMIT_AS)[0]
    except (OSError, ValueError):
        return None
    return None if limit == resource.RLIM_INFINITY else limit


def address_space_bytes() -> int | None:
    """Return the size of the address space of this process in bytes; None without ``/proc``."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def node_free_bytes() -> int | None:
    """Return the memory that this node can give to processes without swapping, in bytes; None without ``/proc``."""
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def own_process() -> Readings:
    """Return the readings of this process, kept open; after a fork the same object reads the child.

    Raises OSError if nothing can be read of the process.
    """
    global _own
    if _own is None:
        _own = ProcReadings() if sys.platform.startswith("linux") else PsutilReadings()
    return _own


def _reopen_in_child() -> None:
    global _own
    if _own is not None:
        try:
            _own.reopen()
        except OSError:
            _own = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_in_child)
