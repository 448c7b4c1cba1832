"""The lines of `.dat` traces, which `mprof` describes; a process that only writes them needs no more."""

from __future__ import annotations

import re

from runmem.units import MIB

__all__ = ["cmdline_line", "mem_line", "child_line", "func_line"]


def cmdline_line(text: str) -> bytes:
    """Return the line that names the command; line breaks become spaces."""
    return b"CMDLINE %s\n" % _one_line(text)


def mem_line(rss_bytes: int, time_s: float) -> bytes:
    """Return the line of a total read at `time_s`, seconds since the epoch."""
    return b"MEM %.6f %.4f\n" % (rss_bytes / MIB, time_s)


def child_line(series: str, rss_bytes: int, time_s: float) -> bytes:
    """Return the line of a reading of `series` (a worker) at `time_s`, seconds since the epoch."""
    return b"CHLD %s %.6f %.4f\n" % (_one_word(series), rss_bytes / MIB, time_s)


def func_line(name: str, mem0_bytes: int, t0_s: float, mem1_bytes: int, t1_s: float, level: int = 0) -> bytes:
    """Return the bracket of a task that ran from `t0_s` to `t1_s`, with the memory at both times.

    White space inside `name` becomes an underscore: `mprof` fails on it. `mprof plot` draws the two memories as points
    of the curve of the totals, so give the totals of those times (`runmem.formats.totals`) where the trace has several
    series; the memory of one worker shows as a fall of the whole node.
    """
    return b"FUNC %s %.4f %.4f %.4f %.4f %d\n" % (
        _one_word(name), mem0_bytes / MIB, t0_s, mem1_bytes / MIB, t1_s, level,
    )  # fmt: skip


def _one_line(text: str) -> bytes:
    return re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+", " ", text).strip().encode("utf-8", "replace")


def _one_word(text: str) -> bytes:
    return re.sub(r"[\s\x00-\x1f\x7f]+", "_", text).encode("utf-8", "replace") or b"_"
