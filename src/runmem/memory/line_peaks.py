"""The line-by-line profile of one call with the peak of each line: the highest size while the line runs.

The kernel's high-water mark is read and reset at each line event. So a line that takes memory and gives it back, such
as ``sum([x * x for x in data])``, shows how much that was.
"""

from __future__ import annotations

from dataclasses import replace
from types import CodeType

from runmem.memory.lines import LineProfile, LineTable
from runmem.memory.peak import PeakMeter, Window
from runmem.memory.source import SourceBlock

__all__ = ["PeakLineTable"]


class PeakLineTable(LineTable):
    """Collect the readings of one call and the peak of each line.

    The peak of a line is that of all that runs meanwhile: what it calls is included, and so are other threads of the
    process. Between the steps of a generator or coroutine no line runs.

    Parameters
    ----------
    code : CodeType
        Code of the function.
    meter : PeakMeter
        That of the process.
    window : Window
        The open window of the call.
    """

    def __init__(self, code: CodeType, meter: PeakMeter, window: Window) -> None:
        super().__init__(code, self._read_with_peak)
        self._meter = meter
        self._window = window
        self._peaks: dict[int, int] = {}
        self._peak_reason: str | None = None

    def _read_with_peak(self) -> int:
        """Return the size; note the peak since the last reading for each line that runs, in all frames."""
        try:
            peak, now = self._meter.line_peak(self._window)
        except (OSError, ValueError, IndexError) as error:
            self._peak_reason = f"a reading is missing: {error}"
            raise
        if peak is None:
            self._peak_reason = self._meter.why_sampled or "the memory could not be read when the call began"
        else:
            for line in self._lines:  # none: the function begins, or was suspended
                if peak > self._peaks.get(line, 0):
                    self._peaks[line] = peak
        return now

    def profile(self, source: SourceBlock) -> LineProfile:
        """Complete the open frames and return the table; without peaks if some could not be measured."""
        table = super().profile(source)
        if self._peak_reason is not None:
            return replace(table, peak_reason=self._peak_reason)
        rows = tuple(replace(row, peak_bytes=self._peaks.get(row.line)) for row in table.rows)
        return replace(table, rows=rows, has_peaks=True)
