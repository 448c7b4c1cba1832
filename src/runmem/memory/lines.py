"""The line-by-line profile of one call: the table that a tracer fills, and its text.

The resident set size is read when the *next* line begins (or the function returns) and credited to the line before.
The first row, a decorator or the ``def``, carries all that the process held at the start. Functions, lambdas and
comprehensions defined inside the function count in its table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

from runmem.memory.source import SourceBlock, nested_codes
from runmem.units import mib

__all__ = ["LineRow", "LineProfile", "LineTable"]

_COLUMNS = "{0:>6} {1:>12} {2:>12}  {3:>10}   {4:<}"  # the layout of memory_profiler 0.61, which other tools parse


@dataclass(frozen=True, slots=True)
class LineRow:
    """A line of the function.

    Attributes
    ----------
    line : int
        Its number in the file.
    mem_bytes : int or None
        Largest resident set size after any visit; None for a line that was not run.
    increment_bytes : int or None
        Sum over all visits of the size after the visit less the reading before it.
    occurrences : int or None
        How often the line was left.
    source : str
        Its text, without the newline; empty if it cannot be found.
    """

    line: int
    mem_bytes: int | None
    increment_bytes: int | None
    occurrences: int | None
    source: str


@dataclass(frozen=True, slots=True)
class LineProfile:
    """The table of one call. `reason` says why readings are missing, if any are."""

    file: str
    rows: tuple[LineRow, ...]
    reason: str | None = None

    def render(self, precision: int = 1) -> str:
        """Return the table as memory_profiler lays it out, sizes in MiB with `precision` decimals."""
        header = _COLUMNS.format("Line #", "Mem usage", "Increment", "Occurrences", "Line Contents")
        lines = [f"Filename: {self.file}", "", header, "=" * len(header)]
        for row in self.rows:
            sizes = [_size(value, precision) for value in (row.mem_bytes, row.increment_bytes)]
            occurrences = "" if row.occurrences is None else row.occurrences
            lines.append(_COLUMNS.format(row.line, *sizes, occurrences, row.source))
        return "\n".join(lines) + "\n\n\n"


def _size(value: int | None, precision: int) -> str:
    if value is None:
        return ""
    number = round(mib(value), precision) + 0.0  # + 0.0: a tiny loss is 0.0, not -0.0
    return f"{number:{precision + 4}.{precision}f} MiB"


class LineTable:
    """Collect the readings of one call; a tracer calls `enter`, `line` and `leave` as the code runs.

    Assumptions: the calls come from one thread at a time, each with the id of the frame that runs. Limitations: a
    reading is of the process, so what other threads take meanwhile is credited to the line that happens to run; what a
    line takes and gives back again is not seen (the peak of the whole call is, see `runmem.memory.peak`).

    Notes
    -----
    The increment of a visit is taken against the actual reading before it. memory_profiler subtracts the largest value
    ever recorded on the line before instead, which in a loop that takes and gives back 100 and then 10 shows +110 and
    -200 for what is +110 and -110.

    Parameters
    ----------
    code : CodeType
        Of the function.
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
        self._lines: list[int] = []  # the line that each of the frames is at

    @property
    def highest_bytes(self) -> int:
        """Largest reading that was credited to a line; 0 before the first."""
        return max((size for _, size, _ in self._seen.values()), default=0)

    def enter(self, frame: int, line: int) -> None:
        """A frame begins, or goes on after a ``yield`` or ``await``; `line` is where."""
        if frame in self._frames:  # the number of one that ended with an exception is used again
            self._drop_to(self._frames.index(frame))
        now = self._now()
        if self._lines:  # what the caller's line took before it called
            self._seen.setdefault(self._lines[-1], [0, 0, 0])[0] += now - self._previous
            self._previous = now
        elif self._seen:  # what was taken elsewhere while this function was suspended
            self._previous = now
        self._frames.append(frame)
        self._lines.append(line)

    def line(self, frame: int, line: int) -> None:
        """Line `line` of `frame` begins."""
        frames = self._frames
        if not frames or frames[-1] != frame:
            if frame not in frames:
                self.enter(frame, line)
                return
            self._drop_to(frames.index(frame) + 1)
        try:
            now = self._read()
        except (OSError, ValueError, IndexError) as error:
            now = self._failed(error)
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
        """`frame` returns, yields, or ends with an exception."""
        if frame in self._frames:
            self._drop_to(self._frames.index(frame))

    def profile(self, source: SourceBlock) -> LineProfile:
        """End what is still open and return the table; a call that ran no line here stands on the first row."""
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
        """Complete the frames above `depth`; without an event of their own, those ended with an exception."""
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
            return self._failed(error)

    def _failed(self, error: Exception) -> int:
        self.reason = f"some readings are missing: {error}"
        return self._previous
