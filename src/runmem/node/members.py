"""Which processes the sampler of a node watches: one small file a process, ``<spool>/members/<pid>``.

The file is one JSON line: ``trace`` (name of the file that the readings go to), ``series`` (name in that trace, empty
for a process that counts in the total alone), ``cmdline``, ``start`` (start time of the process in clock ticks since
boot, null where there is no ``/proc``: it tells the process from a later one of the same number) and ``descendants``
(whether its children count with it).

This module is also loaded by the sampler itself, without the package: standard library only, and little of that.
"""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Member", "join", "leave", "read_members", "start_ticks"]

FOLDER = "members"


class Member:
    """A process that is watched.

    Attributes
    ----------
    pid : int
    start : int or None
        Start time in clock ticks since boot; None where it is not known.
    trace : str
        Name of the trace file in the spool folder.
    series : str
        Its name in the trace; empty: it counts in the total and has no line of its own.
    cmdline : str
        What the first line of the trace says.
    descendants : bool
        Whether processes that it started count with it.
    """

    __slots__ = ("pid", "start", "trace", "series", "cmdline", "descendants")

    def __init__(
        self, pid: int, start: int | None, trace: str, series: str = "", cmdline: str = "", descendants: bool = True
    ) -> None:
        self.pid = pid
        self.start = start
        self.trace = trace
        self.series = series
        self.cmdline = cmdline
        self.descendants = descendants


def start_ticks(pid: int) -> int | None:
    """Return the start time of process `pid` in clock ticks since boot; None if it is gone or there is no ``/proc``."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def join(
    spool_root: Path, pid: int, trace: str, series: str = "", cmdline: str = "", *, descendants: bool = True
) -> None:
    """Have process `pid` sampled from the next tick on. Joining again changes its trace or series.

    Parameters
    ----------
    spool_root : Path
        Spool folder of the run on this node.
    trace : str
        Name of the trace, such as ``node7.dat``; several processes may share one.
    series : str
        Name of the process in the trace; what is no letter, digit or one of ``_.+-`` becomes an underscore.
    descendants : bool
        Whether the children of the process, and theirs, count with it. Those that joined themselves never do.

    Raises
    ------
    ValueError
        If `trace` is not a plain file name.
    OSError
        If the file cannot be written.
    """
    if trace != os.path.basename(trace) or trace in ("", ".", ".."):
        raise ValueError(f"the trace {trace!r} is not a plain file name: the sampler writes in its spool folder alone")
    line = {
        "trace": trace,
        "series": re.sub(r"[^\w.+-]", "_", series),
        "cmdline": re.sub(r"\s+", " ", cmdline),
        "start": start_ticks(pid),
        "descendants": descendants,
    }
    folder = os.path.join(spool_root, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    partial = os.path.join(folder, f".{pid}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(json.dumps(line) + "\n")
    os.replace(partial, os.path.join(folder, str(pid)))


def leave(spool_root: Path, pid: int) -> None:
    """Have process `pid` sampled no longer; no error if it was not."""
    try:
        os.unlink(os.path.join(spool_root, FOLDER, str(pid)))
    except FileNotFoundError:
        return


def read_members(spool_root: str) -> list[Member]:
    """Return the processes that joined, in the order of their numbers; a file that is no member's is left out.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    folder = os.path.join(spool_root, FOLDER)
    members = []
    for pid in sorted(int(name) for name in os.listdir(folder) if name.isdigit()):
        member = _read_member(os.path.join(folder, str(pid)), pid)
        if member is not None:
            members.append(member)
    return members


def _read_member(path: str, pid: int) -> Member | None:
    try:
        with open(path, "rb") as file:
            line = json.loads(file.read())
        trace, series, start = line["trace"], line["series"], line.get("start")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it left just now, or the file is not ours
    if not isinstance(trace, str) or not isinstance(series, str) or os.path.basename(trace) != trace or not trace:
        return None
    known_start = start if isinstance(start, int) else None
    return Member(pid, known_start, trace, series, str(line.get("cmdline") or ""), bool(line.get("descendants", True)))
