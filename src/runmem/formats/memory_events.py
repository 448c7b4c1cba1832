"""Lines of `.dat` traces about what Dask did because the memory of a worker was short, both ways.

::

    EVENT <kind> worker-<pid> <MiB of the worker> <epoch s> [<MiB spilled> <results>]     a size that is not known: -
"""

from __future__ import annotations

from typing import NamedTuple

from runmem.units import MIB

__all__ = ["KINDS", "PAUSED", "RESTARTED", "RESUMED", "SPILLED", "TERMINATED", "MemoryEvent"]

SPILLED, PAUSED, RESUMED, TERMINATED, RESTARTED = KINDS = ("spilled", "paused", "resumed", "terminated", "restarted")
_SERIES = "worker-"
_MOST_MIB = float(2**43)
_MOST_S = 1e12


class MemoryEvent(NamedTuple):
    """One thing that Dask did about the memory of a worker.

    Attributes
    ----------
    kind : str
        ``spilled`` (results moved from memory to disk), ``paused`` (the worker begins no task), ``resumed``,
        ``terminated`` (its nanny ended it at its limit) or ``restarted`` (its nanny started it in place of one that
        died).
    pid : int
        Process id of the worker.
    time_s : float
        Seconds since the epoch; of spilling, when the last of the results was on disk.
    size_bytes : int or None
        Resident set size of the worker then; None if it could not be read.
    spilled_bytes, results : int
        What was spilled since the event before: size in memory by Dask's estimate, and number of results.
    """

    kind: str
    pid: int
    time_s: float
    size_bytes: int | None = None
    spilled_bytes: int = 0
    results: int = 0

    def line(self) -> bytes:
        """Return the line of a trace."""
        size = b"-" if self.size_bytes is None else b"%.6f" % (self.size_bytes / MIB)
        line = b"EVENT %s %s%d %s %.4f" % (self.kind.encode(), _SERIES.encode(), self.pid, size, self.time_s)
        spilled = b" %.6f %d" % (self.spilled_bytes / MIB, self.results) if self.kind == SPILLED else b""
        return line + spilled + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> MemoryEvent:
        """Return the event of a line.

        Raises ValueError if it is not one.
        """
        word, kind, series, size, time, *spilled = line.decode("ascii").split()
        if word != "EVENT" or kind not in KINDS or not series.startswith(_SERIES) or len(spilled) not in (0, 2):
            raise ValueError("not an event")
        bytes_of = [None if text == "-" else _checked(float(text), _MOST_MIB) for text in (size, *spilled[:1])]
        sizes = [None if value is None else round(value * MIB) for value in bytes_of]
        pid, results = int(series[len(_SERIES) :]), int(spilled[1]) if spilled else 0
        if pid < 0 or results < 0:
            raise ValueError("a negative number")
        return cls(kind, pid, _checked(float(time), _MOST_S), sizes[0], (sizes[1:] or [0])[0] or 0, results)


def _checked(value: float, limit: float) -> float:
    if 0 <= value < limit:  # false for NaN too
        return value
    raise ValueError("out of range")
