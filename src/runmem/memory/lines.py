"""The line-by-line profile of one call: the table that a tracer fills, and its text.

The resident set size is read when the *next* line begins (or the function returns) and attributed to the line before.
The first row, a decorator or the ``def``, has the size of the process at the start. The table includes functions,
lambdas and comprehensions defined inside the function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

from runmem.memory.source import SourceBlock, nested_codes
from runmem.units import mib

__all__ = ["LineRow", "LineProfile", "LineTable"]

_COLUMNS = "{0:>6} {1:>12} {2:>12}  {3:>10}   {4:<}"  # the layout of memory_profiler 0.61, which other tools parse
_WITH_PEAK = "{0:>6} {1:>12} {2:>12} {5:>12}  {3:>10}   {4:<}"


@dataclass(frozen=True, slots=True)
class LineRow:
    """A line of the function.

    Attributes
    ----------
    line : int
        Its number in the file.
    mem_bytes : int or None
        Largest resident set size after any visit; None for a line that did not run.
    increment_bytes : int or None
        Sum over all visits of the size after the visit less the reading before it.
    occurrences : int or None
        Number of visits.
    source : str
        Its text, without the newline; empty if it cannot be found.
    peak_bytes : int or None
        Highest resident set size during any visit, with all that the line calls; None if it was not measured.
    """

    line: int
    mem_bytes: int | None
    increment_bytes: int | None
    occurrences: int | None
    source: str
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class LineProfile:
    """The table of one call.

    Attributes
    ----------
    file : str
    rows : tuple of LineRow
    reason : str or None
        Why readings are missing.
    has_peaks : bool
        Whether the peaks of the lines were measured; they are then a column.
    peak_reason : str or None
        Why they were to be measured, and were not.
    """

    file: str
    rows: tuple[LineRow, ...]
    reason: str | None = None
    has_peaks: bool = False
    peak_reason: str | None = None

    def render(self, precision: int = 1) -> str:
        """Format the table as memory_profiler does, with sizes in MiB with `precision` decimals."""
        columns = _WITH_PEAK if self.has_peaks else _COLUMNS
        header = columns.format("Line #", "Mem usage", "Increment", "Occurrences", "Line Contents", "Peak")
        lines = [f"Filename: {self.file}", "", header, "=" * len(header)]
        for row in self.rows:
            sizes = [_size(value, precision) for value in (row.mem_bytes, row.increment_bytes)]
            occurrences = "" if row.occurrences is None else row.occurrences
            peak = _size(row.peak_bytes, precision)
            lines.append(columns.format(row.line, *sizes, occurrences, row.source, peak))
        return "\n".join(lines) + "\n\n\n"

    def notes(self, is_shared: bool) -> list[str]:
        """Return remarks on the readings, given whether another task ran in the process at the same time."""
        found = [] if self.reason is None else [f"Lines: {self.reason}"]
        if self.peak_reason is not None:
            found.append(f"Peaks of the lines: not measured, {self.peak_reason}")
        elif self.has_peaks and is_shared:
            found.append("Peaks of the lines: upper bounds, another task ran in the process at the same time")
        return found


def _size(value: int | None, precision: int) -> str:
    if value is None:
        return ""
    number = round(mib(value), precision) + 0.0  # turns -0.0 into 0.0
    return f"{number:{precision + 4}.{precision}f} MiB"


class LineTable:
    """Collect the readings of one call; a tracer calls `enter`, `line` and `leave` as the code runs.

    Assumptions: one thread at a time calls these, with the id of the running frame. Limitations: a reading is of the
    process, so memory that other threads take is attributed to the current line; memory that a line takes and frees
    again is not seen (except in the peak of the whole call, see `runmem.memory.peak`).

    Notes
    -----
    The increment of a visit is relative to the reading before it. memory_profiler subtracts the largest value ever
    recorded on the line before instead: a loop that takes and frees 100 and then 10 shows +110 and -200 there, here
    +110 and -110.

    Parameters
    ----------
    code : CodeType
        Code of the function.
    read : callable
        Returns the resident set size in bytes.
    """

    def __init__(self, code: CodeType, read: Callable[[], int]) -> None:
        self.codes = {id(nested): nested for nested in nested_codes(code)}
        self.first_line = code.co_firstlineno
        self.reason: str | None = None
        self._read = read
        self._previous = 0
        self._seen: dict[int, list[int]] = {}  # line: increment, largest size, occurrences
        self._frames: list[int] = []
        self._lines: list[int] = []  # the current line of each frame

    @property
    def highest_bytes(self) -> int:
        """Largest reading of a line; 0 before the first."""
        return max((size for _, size, _ in self._seen.values()), default=0)

    def enter(self, frame: int, line: int) -> None:
        """Record that a frame begins, or continues after a ``yield`` or ``await``, at `line`."""
        if frame in self._frames:  # the id of a frame that ended with an exception was reused
            self._drop_to(self._frames.index(frame))
        now = self._now()
        if self._lines:  # memory that the caller's line took before the call
            self._seen.setdefault(self._lines[-1], [0, 0, 0])[0] += now - self._previous
            self._previous = now
        elif self._seen:  # ignore memory taken while this function was suspended
            self._previous = now
        self._frames.append(frame)
        self._lines.append(line)

    def line(self, frame: int, line: int) -> None:
        """Record that line `line` of `frame` begins."""
        frames = self._frames
        if not frames or frames[-1] != frame:
            if frame not in frames:
                self.enter(frame, line)
                return
            self._drop_to(frames.index(frame) + 1)
        now = self._now()
        before = self._lines[-1]
        seen = self._seen.get(before)
        if seen is None:
            self._seen[before] = [now - self._previous, now, 1]
        else:
            seen[0] += now - self._previous
            if now > seen[1]:
                seen[1] = now
            seen[2] += 1
        self._previous = now
        self._lines[-1] = line

    def leave(self, frame: int) -> None:
        """Record that `frame` returns, yields, or ends with an exception."""
        if frame in self._frames:
            self._drop_to(self._frames.index(frame))

    def profile(self, source: SourceBlock) -> LineProfile:
        """Complete the open frames and return the table; a call that ran no line here is in the first row."""
        self._drop_to(0)
        if not self._seen:
            self._lines, self._frames = [self.first_line], [0]
            self._drop_to(0)
        rows = []
        for number, text in enumerate(source.texts, source.first_line):
            increment, size, count = self._seen.get(number, (None, None, None))
            rows.append(LineRow(number, size, increment, count, text))
        return LineProfile(source.file, tuple(rows), self.reason)

    def _drop_to(self, depth: int) -> None:
        """Complete the frames above `depth`, which ended with an exception if no event reported their end."""
        while len(self._frames) > depth:
            now = self._now()
            seen = self._seen.setdefault(self._lines[-1], [0, 0, 0])
            seen[0] += now - self._previous
            seen[1] = max(seen[1], now)
            seen[2] += 1
            self._previous = now
            self._frames.pop()
            self._lines.pop()

    def _now(self) -> int:
        try:
            return self._read()
        except (OSError, ValueError, IndexError) as error:
            self.reason = f"some readings are missing: {error}"
            return self._previous
