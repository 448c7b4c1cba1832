"""Draws the recorded allocations of a run as flame graphs, by memray's own reporter."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from runmem.memory.memray_capture import INSTALL_MEMRAY, memray_is_installed

__all__ = ["make_flame_graphs"]

_MOST = 20  # a graph has 5 MB, and takes a second
_LONGEST_S = 60.0


def make_flame_graphs(profiles: Path, most: int = _MOST, longest_s: float = _LONGEST_S) -> list[str]:
    """Make ``memray-*.html`` of each ``memray-*.bin`` in the folder of profiles; return what the user should know.

    The first `most` are drawn, as far as `longest_s` seconds suffice: the run ends after that.
    """
    captures = sorted(profiles.glob("memray-*.bin"), key=_number)
    if not captures:
        return []
    if not memray_is_installed():
        reason = f"memray is not installed here ({INSTALL_MEMRAY})"
        return [_not_drawn(captures, reason)]
    deadline = time.monotonic() + longest_s
    notes: list[str] = []
    for drawn, capture in enumerate(captures):
        left_s = deadline - time.monotonic()
        if drawn == most or left_s <= 0:
            reason = f"a run draws {most}" if drawn == most else f"{longest_s:.0f} s were not enough"
            return [*notes, _not_drawn(captures[drawn:], reason)]
        if (failure := _draw(capture, left_s)) is not None:
            notes.append(_not_drawn([capture], failure))
    return notes


def _number(capture: Path) -> tuple[int, str]:
    """Return the sorting key of a file: the first call of each task comes before the second of any."""
    number = capture.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0, capture.name


def _draw(capture: Path, limit_s: float) -> str | None:
    """Make one graph; return why it could not be made."""
    # The page works without the network, in versions of memray that can do that.
    for options in (["--no-web"], []):
        command = [sys.executable, "-P", "-m", "memray", "flamegraph", *options, "-f", "-o", f"{capture.stem}.html"]
        try:
            done = subprocess.run(
                [*command, capture.name],
                cwd=capture.parent,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode != 2:  # an option that it does not know
            break
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return None


def _not_drawn(captures: Sequence[Path], reason: str) -> str:
    several = f"{len(captures)} flame graphs were" if len(captures) > 1 else "a flame graph was"
    command = f"python -m memray flamegraph {shlex.quote(str(captures[0]))}"
    return f"{several} not drawn: {reason}. Draw {'each' if len(captures) > 1 else 'it'} yourself: {command}"
