"""Read `.dat` traces, the format of memory_profiler's `mprof` (0.61); `mprof_lines` writes them.

::

    CMDLINE <text>
    MEM <MiB> <epoch s>                                   total of the trace's owner
    CHLD <series> <MiB> <epoch s>                         one series a worker
    FUNC <name> <MiB> <epoch s> <MiB> <epoch s> <level>   a task that ran, drawn as a bracket
    CHILDREN <series> <command> <MiB> <epoch s>           only in runmem: the children of tasks in a worker
    GPU <gpu0 or series> <MiB> <epoch s>                  only in runmem: memory on a GPU, and of a worker on all
    LOST <lines> <epoch s>                                only in runmem: lines lost until then (the disk was full)
    NOTE <text>                                           only in runmem: a remark on the values
    EVENT <kind> <series> <MiB> <epoch s> ...             only in runmem: what Dask did about memory, `memory_events`

`mprof` ignores the last five, and fails on a blank line, on a line without a space, and on a name that contains a
space.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from runmem.formats.memory_events import MemoryEvent
from runmem.reading import read_lines
from runmem.units import MIB

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

__all__ = ["FORKED", "Bracket", "ChildrenReading", "Floats", "Integers", "Trace", "read_trace"]

FORKED = "(forked)"
"""Command of child processes that have run no other program: what they still share with their parent counts in each."""

_MOST_MIB = float(2**43)  # 2**63 bytes, the limit of a 64-bit integer
_MOST_S = 1e12


@dataclass(frozen=True, slots=True)
class Bracket:
    """A task (or function), with the resident set size and the time at its start and at its end.

    Attributes
    ----------
    name : str
    start_bytes, end_bytes : int
    start_s, end_s : float
        Seconds since the epoch.
    level : int
        Depth in the stack; 0 if the file has none.
    """

    name: str
    start_bytes: int
    start_s: float
    end_bytes: int
    end_s: float
    level: int = 0


class ChildrenReading(NamedTuple):
    """What the child processes of a worker's tasks used at one time.

    Attributes
    ----------
    time_s : float
        Seconds since the epoch.
    size_bytes : int
    command : str
        Command of those with the largest share.
    """

    time_s: float
    size_bytes: int
    command: str


@dataclass(frozen=True)
class Trace:
    """The content of a `.dat` file, in the order of its lines.

    Attributes
    ----------
    cmdline : str or None
        The command, if the file has it.
    times_s : array of float, shape (n,)
        Seconds since the epoch of each total.
    totals_bytes : array of int, shape (n,)
    children : dict
        Name of the series to ``(times_s, sizes_bytes)``, two arrays of one length.
    brackets : list of Bracket
    notes : list of str
        The writer's remarks on the values, such as that they are plain sums of resident set sizes.
    skipped : int
        Number of torn, binary and unknown lines, which are ignored.
    lost_lines : int
        Number of lines that the writer could not write (disk full).
    events : list of MemoryEvent
        What Dask did about the memory of the workers.
    children_of_tasks : dict
        Name of the series to the readings of the children of its tasks: lists of `ChildrenReading`.
    gpus : dict
        Name of a device (``gpu0``) or series to its readings of memory on GPUs: lists of (epoch seconds, bytes).
    """

    cmdline: str | None
    times_s: Floats
    totals_bytes: Integers
    children: dict[str, tuple[Floats, Integers]]
    brackets: list[Bracket]
    notes: list[str] = field(default_factory=list)
    skipped: int = 0
    lost_lines: int = 0
    events: list[MemoryEvent] = field(default_factory=list)
    children_of_tasks: dict[str, list[ChildrenReading]] = field(default_factory=dict)
    gpus: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """What the values are: ``rss``, ``pss`` or ``uss``, by the first of the notes."""
        word = self.notes[0].partition(":")[0] if self.notes else ""
        return word if word in ("pss", "uss") else "rss"

    @property
    def peak_bytes(self) -> int | None:
        """The highest total; None without a total."""
        return int(self.totals_bytes.max()) if self.totals_bytes.size else None

    @property
    def peak_time_s(self) -> float | None:
        """Time of the highest total, in seconds since the epoch."""
        return float(self.times_s[int(self.totals_bytes.argmax())]) if self.totals_bytes.size else None


def read_trace(path: Path | str, begin: int = 0) -> Trace:
    """Read a trace of this package, of `mprof` or of PyCOMPSs: its head, and from the first line after `begin` on.

    Lines that cannot be parsed are ignored and counted.

    Raises OSError if the file cannot be opened, or is a pipe or a device.

    A last line without a line break counts as torn, since its number may have lost digits.
    """
    reader = _TraceReader()
    if begin:
        reader.read_head(read_lines(path))
    return reader.read(read_lines(path, begin))


class _TraceReader:
    """The columns of a trace during reading."""

    def __init__(self) -> None:
        self.cmdline: str | None = None
        self.totals: tuple[list[float], list[float]] = ([], [])
        self.children: dict[bytes, tuple[list[float], list[float]]] = {}
        self.brackets: list[Bracket] = []
        self.notes: list[str] = []
        self.events: list[MemoryEvent] = []
        self.lost_lines = 0
        self.children_of_tasks: dict[str, list[ChildrenReading]] = {}
        self.gpus: dict[str, list[tuple[float, int]]] = {}

    def read_head(self, lines: Iterable[bytes]) -> None:
        """Read the command and the notes before the first reading."""
        for line in lines:
            if not line.startswith((b"CMDLINE ", b"NOTE ")):
                return
            with suppress(ValueError):
                self._parse(line)

    def read(self, lines: Iterable[bytes]) -> Trace:
        skipped = 0
        for line in lines:
            try:
                if line[-1:] != b"\n":
                    raise ValueError("torn")
                self._parse(line)
            except ValueError:
                skipped += 1
        times_s, totals_bytes = _arrays(self.totals)
        children = {name.decode("utf-8", "replace"): _arrays(columns) for name, columns in self.children.items()}
        return Trace(
            self.cmdline, times_s, totals_bytes, children, self.brackets, self.notes, skipped, self.lost_lines,
            self.events, self.children_of_tasks, self.gpus,
        )  # fmt: skip

    def _parse(self, line: bytes) -> None:
        """Parse one whole line; raise ValueError if it is not valid."""
        kind, *values = line.split()
        if kind == b"CHLD":
            series, size, time = values
            reading = _checked(float(time), float(size))
            columns = self.children.get(series)
            if columns is None:
                columns = self.children[series] = ([], [])
        elif kind == b"MEM":
            size, time = values
            reading = _checked(float(time), float(size))
            columns = self.totals
        else:
            self._parse_rare(kind, values, line)
            return
        columns[0].append(reading[0])
        columns[1].append(reading[1])

    def _parse_rare(self, kind: bytes, values: list[bytes], line: bytes) -> None:
        if kind == b"FUNC":
            self.brackets.append(_bracket(*values) if len(values) in (5, 6) else _not_a_bracket())
        elif kind == b"CHILDREN":
            series, command, size, time = values
            time_s, size_mib = _checked(float(time), float(size))
            reading = ChildrenReading(time_s, round(size_mib * MIB), command.decode("utf-8", "replace"))
            self.children_of_tasks.setdefault(series.decode("utf-8", "replace"), []).append(reading)
        elif kind == b"GPU":
            name, size, time = values
            time_s, size_mib = _checked(float(time), float(size))
            self.gpus.setdefault(name.decode("utf-8", "replace"), []).append((time_s, round(size_mib * MIB)))
        elif kind == b"LOST":
            count, _ = values
            self.lost_lines += max(int(count), 0)
        elif kind == b"EVENT":
            self.events.append(MemoryEvent.parse(line))
        elif kind == b"CMDLINE" and b"\0" not in line:
            if self.cmdline is None:
                self.cmdline = _text(line)
        elif kind == b"NOTE" and b"\0" not in line:
            self.notes.append(_text(line))
        else:
            raise ValueError("unknown type of line")


def _text(line: bytes) -> str:
    return line.partition(b" ")[2].decode("utf-8", "replace").strip()


def _checked(time_s: float, size_mib: float) -> tuple[float, float]:
    if 0 <= size_mib < _MOST_MIB and 0 <= time_s < _MOST_S:  # false for NaN too
        return time_s, size_mib
    raise ValueError("not a reading")


def _bracket(name: bytes, mem0: bytes, t0: bytes, mem1: bytes, t1: bytes, level: bytes = b"0") -> Bracket:
    start_s, start_mib = _checked(float(t0), float(mem0))
    end_s, end_mib = _checked(float(t1), float(mem1))
    text = name.decode("utf-8", "replace")
    return Bracket(text, round(start_mib * MIB), start_s, round(end_mib * MIB), end_s, int(level))


def _not_a_bracket() -> Bracket:
    raise ValueError("a bracket has five or six values")


def _arrays(columns: tuple[list[float], list[float]]) -> tuple[Floats, Integers]:
    import numpy as np

    times, sizes = columns
    return np.array(times, dtype=np.float64), np.rint(np.array(sizes, dtype=np.float64) * MIB).astype(np.int64)
