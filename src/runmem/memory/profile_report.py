"""The reports of `@profile`, and their output."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TextIO

from runmem.memory.memray_capture import CaptureFiles
from runmem.standard_error import say
from runmem.units import mib

if TYPE_CHECKING:  # not imported by processes that only forward reports
    from runmem.memory.peak import PeakReading

__all__ = [
    "ProfileReport", "Table", "capture_files", "compose", "emit", "set_job_name", "set_own_captures", "set_report_sink",
    "warn_once",
]  # fmt: skip

_FILE_VARIABLE = "COMPSS_PROFILING_FILE"


class ProfileReport(NamedTuple):
    """The report of one call.

    Attributes
    ----------
    name, file : str
        Of the function.
    text : str
        The text to print, with its last newline.
    full_report : bool
        Whether `text` is a table with its summary, or a single line.
    peak_bytes : int or None
        Highest resident set size of this process during the call; None if unreadable.
    recorded_by : str or None
        Tool that recorded the allocations of the call, whose own memory is in the peak; None for most calls.
    capture : Path or None
        The file that it has written.
    not_recorded : str or None
        Why it should have recorded them and did not.
    """

    name: str
    file: str
    text: str
    full_report: bool
    peak_bytes: int | None
    recorded_by: str | None = None
    capture: Path | None = None
    not_recorded: str | None = None


class Table(Protocol):
    """The table of a full report."""

    def render(self, precision: int = 1) -> str:
        """Return its text, with an empty line at the end, and sizes in MiB with `precision` decimals."""

    def notes(self, is_shared: bool) -> list[str]:
        """Return remarks, for the end of the report."""


_job_name: ContextVar[str] = ContextVar("runmem_job_name", default="master")
_sink: Callable[[ProfileReport], None] | None = None
_captures_of_sink: CaptureFiles | None = None
_own_captures: CaptureFiles | None = None
_warned: set[str] = set()
_warning_lock = threading.Lock()


def set_report_sink(sink: Callable[[ProfileReport], None] | None, captures: CaptureFiles | None = None) -> None:
    """Pass every report of this process to `sink` instead of printing it; None prints again.

    With ``COMPSS_PROFILING_FILE``, or a `stream` argument of the decorator, the report is also printed there.

    Parameters
    ----------
    captures : CaptureFiles, optional
        Where allocations are recorded for `sink`.
    """
    global _sink, _captures_of_sink
    _sink, _captures_of_sink = sink, captures


def set_own_captures(captures: CaptureFiles | None) -> None:
    """Record allocations in `captures` where there is no sink; None: in the folder of the process."""
    global _own_captures
    _own_captures = captures


def capture_files() -> CaptureFiles:
    """Return where allocations are recorded now."""
    return (_own_captures if _sink is None else _captures_of_sink) or CaptureFiles.of_process()


def set_job_name(name: str) -> None:
    """Set the job name for later calls in this thread (and this asyncio task); the default is ``master``."""
    _job_name.set(name)


def compose(
    name: str, file: str, table: Table | None, peak: PeakReading, times: tuple[float, float], precision: int
) -> ProfileReport:
    """Return the report of a call: the full one with a `table`, else the line ``<file> <name> <peak> MiB``.

    Parameters
    ----------
    peak : PeakReading
        Reading of the call's window.
    times : (start, elapsed)
        Seconds since the epoch, seconds.
    precision : int
        Decimals of sizes in MiB.

    Notes
    -----
    A path that is not one word in a shell is quoted. An unknown peak is printed as ``-``.
    """
    if table is None:
        text = f"{_one_word(file)} {name} {_size(peak.peak_bytes, precision)}\n"
        return ProfileReport(name, file, text, False, peak.peak_bytes)
    lines = [
        f"Job name: {_job_name.get()}",
        f"Task start time: {times[0]:.3f} s since the epoch",
        f"Elapsed time: {times[1]:.6f} s",
        f"Initial memory: {_size(peak.base_bytes, precision)}",
        f"Final memory: {_size(peak.end_bytes, precision)}",
        f"Peak memory: {_size(peak.peak_bytes, precision)}{_labels(peak)}",
    ]
    lines += table.notes(peak.shared)
    text = table.render(precision) + "\n".join(lines) + "\n\n"
    return ProfileReport(name, file, text, True, peak.peak_bytes)


def _size(value: int | None, precision: int) -> str:
    return "- MiB" if value is None else f"{mib(value):.{precision}f} MiB"


def _labels(peak: PeakReading) -> str:
    labels = []
    if peak.method == "hwm":
        labels.append("exact, high-water mark of the process")
    elif peak.method == "sampled":
        labels.append("sampled, the true peak may be higher")
    if peak.shared:
        labels.append("shared, another task ran in the process at the same time")
    if peak.reason is not None:
        labels.append(peak.reason)
    return f" ({'; '.join(labels)})" if labels else ""


def _one_word(path: str) -> str:
    try:
        return path if shlex.split(path) == [path] else shlex.quote(path)
    except ValueError:  # an open quote
        return shlex.quote(path)


def emit(report: ProfileReport, stream: TextIO | None = None) -> None:
    """Print `report` and pass it to the sink; a failure of the sink is reported once on standard error.

    It is printed to the file in ``COMPSS_PROFILING_FILE``, else to `stream`, else, without a sink, to standard output.
    """
    sink = _sink
    if path := os.environ.get(_FILE_VARIABLE):
        try:
            _append(path, report.text)
        except OSError as error:
            warn_once(
                f"{_FILE_VARIABLE}={path}: the file cannot be written ({error.strerror or error}); "
                "profile reports are printed to standard output instead."
            )
            _print(report.text, stream)
    elif stream is not None or sink is None:
        _print(report.text, stream)
    if sink is not None:
        try:
            sink(report)
        except Exception as error:
            warn_once(f"a profile report could not be delivered: {error!r}")


def _append(path: str, text: str) -> None:
    """Append the whole `text` under a lock on the file. Raises OSError also for a block device."""
    if os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is a block device", path)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with contextlib.suppress(OSError):  # a file system without locks; on local ones a single write is whole
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:  # one write, unless the kernel cuts it short
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def _print(text: str, stream: TextIO | None) -> None:
    target = stream if stream is not None else sys.stdout
    if target is not None:  # a process without a terminal may have no standard output
        target.write(text)
        target.flush()


def warn_once(message: str) -> None:
    """Write `message` to standard error, unless it was written before."""
    with _warning_lock:
        if message in _warned:
            return
        _warned.add(message)
    say(f"runmem: warning: {message}")
