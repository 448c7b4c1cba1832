"""The summary of a single `.dat` file, of runmem, PyCOMPSs or `mprof`."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runmem.errors import SettingError
from runmem.formats.mprof import read_trace
from runmem.metrics.from_traces import with_children
from runmem.reading import JsonObject
from runmem.reports.memory_rows import MemoryRow, memory_rows
from runmem.reports.sections import Line, lines_skipped, memory_lines, seconds
from runmem.table import TableColumn, lay_out, printable
from runmem.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["TraceSummary"]

_MOST_SERIES = 30


@dataclass(frozen=True)
class TraceSummary:
    """The summary of one trace.

    Attributes
    ----------
    path : Path
    cmdline : str or None
    samples : int
        Readings of the total.
    span_s : float or None
        Time between the first and the last reading.
    peak_bytes, peak_after_s : int, float or None
        The highest total, with the children of `mprof run --multiprocess`, and its time since the first reading;
        None in a file without totals.
    series_peaks_bytes : dict of str to int
        Highest reading of each child, in descending order.
    brackets : int
        Number of tasks or functions in the file.
    notes : tuple of str
    skipped, lost_lines : int
        Lines that could not be read, and lines that the writer could not write.
    memory : tuple of MemoryRow
        What Dask did because the memory of workers was short.
    start_s : float or None
        Time of the first reading, in seconds since the epoch.
    """

    path: Path
    cmdline: str | None
    samples: int
    span_s: float | None
    peak_bytes: int | None
    peak_after_s: float | None
    series_peaks_bytes: dict[str, int]
    brackets: int
    notes: tuple[str, ...]
    skipped: int
    lost_lines: int
    memory: tuple[MemoryRow, ...] = ()
    start_s: float | None = None

    @classmethod
    def from_file(cls, path: Path) -> TraceSummary:
        """Return the summary of the file at `path`.

        Raises SettingError if it cannot be opened, or holds nothing that a trace holds.
        """
        try:
            trace = with_children(read_trace(path))
        except OSError as error:
            raise SettingError(f"{path} cannot be read: {error.strerror or error}") from error
        if not (trace.times_s.size or trace.children or trace.brackets):
            raise SettingError(
                f"{path} is not a memory trace: it has no MEM, CHLD or FUNC line, and {trace.skipped} others."
            )
        peaks = {name: int(sizes.max()) for name, (_, sizes) in trace.children.items() if sizes.size}
        start_s = float(trace.times_s.min()) if trace.times_s.size else None
        return cls(
            path=path,
            cmdline=trace.cmdline,
            samples=int(trace.times_s.size),
            span_s=None if start_s is None else float(trace.times_s.max()) - start_s,
            peak_bytes=trace.peak_bytes,
            peak_after_s=None if trace.peak_time_s is None or start_s is None else trace.peak_time_s - start_s,
            series_peaks_bytes=dict(sorted(peaks.items(), key=lambda item: -item[1])),
            brackets=len(trace.brackets),
            notes=tuple(trace.notes),
            skipped=trace.skipped,
            lost_lines=trace.lost_lines,
            memory=tuple(memory_rows({path.name: trace}, [])),
            start_s=start_s,
        )

    def as_dict(self) -> JsonObject:
        """Return the summary for JSON: sizes in bytes, times in seconds, null for missing values."""
        return {**asdict(self), "path": str(self.path)}

    def render(self, console: Console) -> None:
        """Print the summary, in colour on a terminal and as plain lines elsewhere."""
        from rich.text import Text

        for text, style in self._lines(console.width if console.is_terminal else None):
            console.print(Text(printable(text), style=style), soft_wrap=True)

    def _next(self) -> list[str]:
        path = printable(shlex.quote(str(self.path)))
        return [f"runmem report {path} --figure memory.png", f"mprof plot {path}"]

    def _lines(self, width: int | None) -> list[Line]:
        at = f" after {seconds(self.peak_after_s)}" if self.peak_after_s is not None else ""
        found = [
            (f"{printable(self.path.name)}: peak {format_bytes(self.peak_bytes)}{at}", "bold"),
            (f"  {self.samples} samples in {seconds(self.span_s)}, {self.brackets} brackets", ""),
        ]
        if self.cmdline:
            found.append((f"  command: {printable(self.cmdline)}", ""))
        found += [(f"  {printable(note)}", "dim") for note in self.notes]
        peaks = list(self.series_peaks_bytes.items())
        if peaks:
            cells = [[name, format_bytes(size)] for name, size in peaks[:_MOST_SERIES]]
            columns = [TableColumn("Series", flexible=True), TableColumn("Peak", right=True)]
            head, *lines = lay_out(columns, cells, width)
            found += [("", ""), (head, "bold"), *((line, "") for line in lines)]
        if len(peaks) > _MOST_SERIES:
            found.append((f"and {len(peaks) - _MOST_SERIES} more series with lower peaks", "dim"))
        if self.memory:
            rows = memory_lines(self.memory, self.start_s, width, _MOST_SERIES)
            found += [("", ""), ("Spilled, paused or restarted", "bold"), *rows]
        if self.skipped:
            found.append((lines_skipped(self.skipped), "yellow"))
        if self.lost_lines:
            found.append((f"{self.lost_lines} lines could not be written on the node", "yellow"))
        return [*found, ("", ""), ("Next", "bold"), *((f"  {command}", "cyan") for command in self._next())]
