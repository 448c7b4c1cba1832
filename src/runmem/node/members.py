"""The processes that a node's sampler watches, its members: one small file for each, ``<spool>/members/<pid>``.

The file is one JSON line: ``trace`` (file name of the trace), ``series`` (name in that trace, empty for a process that
counts in the total only), ``cmdline``, ``start`` (start time of the process in clock ticks since boot, null without
``/proc``; it distinguishes the process from a later one with the same id), ``descendants`` (whether its children
count with it), ``forks_calls`` (whether these are processes that run its tasks, and not children of a task) and
``metric`` (what to read: ``rss``, ``pss`` or ``uss``, the same for all members).

The sampler also loads this module, without the package: it imports only a few modules of the standard library.
"""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FOLDER", "Member", "join", "leave", "read_members", "start_ticks"]

FOLDER = "members"


class Member:
    """A watched process.

    Attributes
    ----------
    pid : int
    start : int or None
        Start time in clock ticks since boot; None if unknown.
    trace : str
        Name of the trace file in the spool folder.
    series : str
        Its name in the trace; if empty, it counts in the total only.
    cmdline : str
        Command in the first line of the trace.
    descendants : bool
        Whether its descendants count with it.
    forks_calls : bool
        Whether its children run its tasks.
    metric : str
        What to read: ``rss``, ``pss`` or ``uss``.
    """

    __slots__ = ("pid", "start", "trace", "series", "cmdline", "descendants", "forks_calls", "metric")

    def __init__(
        self,
        pid: int,
        start: int | None,
        trace: str,
        series: str = "",
        cmdline: str = "",
        descendants: bool = True,
        forks_calls: bool = False,
        metric: str = "rss",
    ) -> None:
        self.pid = pid
        self.start = start
        self.trace = trace
        self.series = series
        self.cmdline = cmdline
        self.descendants = descendants
        self.forks_calls = forks_calls
        self.metric = metric


def start_ticks(pid: int) -> int | None:
    """Return the start time of process `pid` in clock ticks since boot; None if it has ended or without ``/proc``."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def join(
    spool_root: Path,
    pid: int,
    trace: str,
    series: str = "",
    cmdline: str = "",
    *,
    descendants: bool = True,
    forks_calls: bool = False,
    metric: str = "rss",
) -> None:
    """Sample process `pid` from the next tick on. Joining again changes its trace or series.

    Raises ValueError if `trace` is not a plain file name. Raises OSError if the file cannot be written.

    Parameters
    ----------
    spool_root : Path
        Spool folder of the run on this node.
    trace : str
        Name of the trace, such as ``node7.dat``; several processes may share one.
    series : str
        Name of the process in the trace; characters other than letters, digits and ``_.+-`` become underscores.
    descendants : bool
        Whether the descendants of the process count with it, except those that joined themselves.
    forks_calls : bool
        Whether the children of the process are forked to run its tasks, so that only theirs are children of a task.
    metric : str
        What to read: ``rss``, ``pss`` or ``uss``; the same for all members.
    """
    if trace != os.path.basename(trace) or trace in ("", ".", ".."):
        raise ValueError(f"the trace {trace!r} is not a plain file name: the sampler writes only to its spool folder")
    line = {
        "trace": trace,
        "series": re.sub(r"[^\w.+-]", "_", series),
        "cmdline": re.sub(r"\s+", " ", cmdline),
        "start": start_ticks(pid),
        "descendants": descendants,
        "forks_calls": forks_calls,
        "metric": metric,
    }
    folder = os.path.join(spool_root, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    partial = os.path.join(folder, f".{pid}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(json.dumps(line) + "\n")
    os.replace(partial, os.path.join(folder, str(pid)))


def leave(spool_root: Path, pid: int) -> None:
    """Stop sampling process `pid`, if it was sampled."""
    try:
        os.unlink(os.path.join(spool_root, FOLDER, str(pid)))
    except FileNotFoundError:
        return


def read_members(spool_root: str) -> list[Member]:
    """Return the members in the order of their process ids; invalid files are ignored.

    Raises OSError if the folder cannot be listed.
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
        return None  # it has just left, or the file is invalid
    if not isinstance(trace, str) or not isinstance(series, str) or os.path.basename(trace) != trace or not trace:
        return None
    known_start = start if isinstance(start, int) else None
    command, descendants = str(line.get("cmdline") or ""), bool(line.get("descendants", True))
    return Member(
        pid,
        known_start,
        trace,
        series,
        command,
        descendants,
        bool(line.get("forks_calls")),
        str(line.get("metric") or "rss"),
    )
