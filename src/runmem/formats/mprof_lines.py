"""Format the lines of `.dat` traces, which `mprof` describes; separate from it so that writers import less."""

from __future__ import annotations

import re

from runmem.units import MIB

__all__ = ["cmdline_line", "mem_line", "child_line", "func_line"]


def cmdline_line(text: str) -> bytes:
    """Return the line of the command; line breaks become spaces."""
    return b"CMDLINE %s\n" % _one_line(text)


def mem_line(rss_bytes: int, time_s: float) -> bytes:
    """Return the line of a total at `time_s`, seconds since the epoch."""
    return b"MEM %.6f %.4f\n" % (rss_bytes / MIB, time_s)


def child_line(series: str, rss_bytes: int, time_s: float) -> bytes:
    """Return the line of a reading of `series` (a worker) at `time_s`, seconds since the epoch."""
    return b"CHLD %s %.6f %.4f\n" % (_one_word(series), rss_bytes / MIB, time_s)


def func_line(name: str, mem0_bytes: int, t0_s: float, mem1_bytes: int, t1_s: float, level: int = 0) -> bytes:
    """Return the bracket of a task that ran from `t0_s` to `t1_s`, with the memory at both times.

    White space in `name` becomes an underscore, since `mprof` fails on it. `mprof plot` draws both memories as points
    on the curve of the totals, so in a trace with several series pass the totals at these times
    (`runmem.formats.totals`); the memory of one worker would look like a drop of the whole node.
    """
    start = b"%.4f %.4f" % (mem0_bytes / MIB, t0_s)
    return b"FUNC %s %s %.4f %.4f %d\n" % (_one_word(name), start, mem1_bytes / MIB, t1_s, level)


def _one_line(text: str) -> bytes:
    return re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+", " ", text).strip().encode("utf-8", "replace")


def _one_word(text: str) -> bytes:
    return re.sub(r"[\s\x00-\x1f\x7f]+", "_", text).encode("utf-8", "replace") or b"_"
