"""Measure one call of a profiled function."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import CodeType
from typing import NamedTuple, Self, TextIO

from runmem.memory.allocator import return_freed_memory_at_once, trim_free_memory
from runmem.memory.line_peaks import PeakLineTable
from runmem.memory.lines import LineProfile, LineTable
from runmem.memory.memray_capture import is_recording, memray_takes_part
from runmem.memory.peak import PeakReading, Window, process_meter
from runmem.memory.process import own_process
from runmem.memory.profile_report import ProfileReport, compose, emit, warn_once
from runmem.memory.source import SourceBlock, source_block
from runmem.memory.tracers import LineTracer, line_tracer

__all__ = ["CallMeasurement", "ReportOptions", "Subject", "measure_peaks_of_lines"]

_peaks_by_default = False


def measure_peaks_of_lines(by_default: bool) -> None:
    """Measure the peaks of lines, or not, in full reports of this process whose decorator does not say."""
    global _peaks_by_default
    _peaks_by_default = by_default


class ReportOptions(NamedTuple):
    """What a report has, see `runmem.memory.profile.profile`; `peak` is None where the decorator does not say."""

    full_report: bool = True
    precision: int = 1
    stream: TextIO | None = None
    peak: bool | None = None
    records_allocations: bool = False


@dataclass(slots=True)
class Subject:
    """The function whose calls are profiled: its name, its code, and the text of its lines.

    Attributes
    ----------
    name, file : str
    code : CodeType or None
        None for a function that is not written in Python.
    module_globals : dict or None
        Globals of the function.
    known_source : SourceBlock, optional
        Its lines; read from its file by default.
    """

    name: str
    file: str
    code: CodeType | None
    module_globals: dict[str, object] | None
    known_source: SourceBlock | None = None

    def source(self) -> SourceBlock:
        """Return the lines of the function, which are read only once."""
        if self.known_source is None:
            if self.code is None:
                return SourceBlock(self.file, 1, ())
            self.known_source = source_block(self.code, self.module_globals)
        return self.known_source


class CallMeasurement:
    """Measure one call, as a context; never raises, but reports failures once on standard error."""

    def __init__(self, subject: Subject, options: ReportOptions, within: object = None) -> None:
        self._subject = subject
        self._options = options
        self._window: Window | None = None
        self._table: LineTable | None = None
        self._start_s = time.time()
        self._clock_s = time.perf_counter()
        try:
            self._begin(within)
        except Exception as error:
            _warn(subject, error)

    def _begin(self, within: object) -> None:
        """Open the window of the call, and make its table."""
        options, code = self._options, self._subject.code
        if options.full_report:
            # Otherwise later calls of a function reuse freed memory and show no change.
            return_freed_memory_at_once()
            trim_free_memory()
            if code is not None:
                self._table = LineTable(code, own_process().resident_bytes)
        self._beside_memray = is_recording()
        self._window = process_meter().start(within=within)
        has_peaks = _peaks_by_default if options.peak is None else options.peak
        if self._table is not None and code is not None and has_peaks:
            self._table = PeakLineTable(code, process_meter(), self._window)

    def lines(self) -> AbstractContextManager[None]:
        """Return a context in which lines are recorded in the table, if there is one."""
        return _Lines(self._table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop the measurement and emit its report."""
        elapsed_s = time.perf_counter() - self._clock_s
        try:
            if self._window is not None:
                peak = process_meter().stop(self._window)
                emit(self._report(peak, (self._start_s, elapsed_s)), self._options.stream)
        except Exception as error:
            _warn(self._subject, error)

    def _report(self, peak: PeakReading, times: tuple[float, float]) -> ProfileReport:
        """Return the report, given the reading of the window, and start and duration in seconds."""
        subject, table = self._subject, None
        if self._options.full_report:
            source = subject.source()
            if self._table is None:
                table = LineProfile(source.file, ())
            else:
                table = self._table.profile(source)
                peak = _with_readings(peak, self._table.highest_bytes)
        if self._beside_memray or is_recording():
            peak = peak._replace(reason=memray_takes_part(peak.reason))
        return compose(subject.name, subject.file, table, peak, times, self._options.precision)


class _Lines(AbstractContextManager[None]):
    """Trace the lines that run inside. (A `contextmanager` would set attributes of exceptions raised inside.)"""

    def __init__(self, table: LineTable | None) -> None:
        self._table = table
        self._tracer: LineTracer | None = None

    def __enter__(self) -> None:
        if self._table is None:
            return
        try:
            tracer = line_tracer()
            tracer.begin(self._table)
            self._tracer = tracer
        except Exception as error:
            self._table.reason = f"the lines could not be traced: {error}"

    def __exit__(self, *raised: object) -> None:
        if self._table is None or self._tracer is None:
            return
        try:
            self._tracer.end(self._table)
        except Exception as error:  # another tool freed our tool id of sys.monitoring
            self._table.reason = f"another tool stopped the tracing of the lines: {error}"


def _with_readings(peak: PeakReading, highest_bytes: int) -> PeakReading:
    """Return `peak`, raised to the readings of the lines: the kernel's mark lags by some pages a processor."""
    if peak.peak_bytes is None or highest_bytes <= peak.peak_bytes:
        return peak
    return peak._replace(peak_bytes=highest_bytes)


def _warn(subject: Subject, error: Exception) -> None:
    warn_once(f"{subject.file}: {subject.name} could not be profiled: {error!r}")
