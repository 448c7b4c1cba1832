"""Classify a command by its first executions, to choose controls that resemble it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from runmem.trials.control import PATTERNS
from runmem.trials.methods import MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome, ProcessEnd
from runmem.units import MIB

__all__ = ["ProgramKind", "program_kind"]

_LARGE = 0.25  # of the largest process; smaller ones are helpers that do not matter here
_NOTICED = 1.2
_NOTICED_BYTES = 8 * MIB
_SHORT_SAMPLES = 5
_MISSED, _MISSED_BYTES = 0.01, MIB
_HELPERS = "many small ones in turn"

Executions: TypeAlias = Sequence[tuple[CommandOutcome, Mapping[str, Reading]]]


@dataclass(frozen=True, slots=True)
class ProgramKind:
    """A kind of program, by its processes and its memory.

    Attributes
    ----------
    patterns : tuple of str
        The patterns of the controls that resemble it.
    description : str
        In words, with the evidence.
    """

    patterns: tuple[str, ...]
    description: str

    @property
    def is_one_process(self) -> bool:
        """Whether one process has all the memory that matters."""
        return not {"parallel", "turn", "fork"} & set(self.patterns)


def program_kind(executions: Executions, columns: Sequence[MethodColumn], interval_s: float) -> ProgramKind:
    """Return the kind of the command, with all patterns if its processes could not be traced.

    Limitation: a peak of several processes together that is shorter than the interval is only noticed if one of them
    alone exceeds all samples of the tree.
    """
    if not any(outcome.processes for outcome, _ in executions):
        reason = "of unknown kind, since its processes could not be traced: no control is known to fit"
        return ProgramKind(PATTERNS, reason)
    found = {"one": "", **_processes(executions), **_memory(executions, interval_s)}
    if any(column.kind == "average" for column in columns):
        found["freed"] = ""
    if len(found.keys() & {"parallel", "turn"}) == 0 or found.get("turn") == _HELPERS:
        found["one"] = "one large process"
    return ProgramKind(tuple(found), ", ".join(word for word in found.values() if word))


def _processes(executions: Executions) -> dict[str, str]:
    """Return the patterns of the processes, each with its evidence."""
    found = {}
    overlapping = max(_at_once(outcome.processes) for outcome, _ in executions)
    several = max(len(_large(outcome.processes)) for outcome, _ in executions)
    if overlapping > 1:
        found["parallel"] = f"{overlapping} large processes at the same time"
    if several > overlapping:
        found["turn"] = f"{several} large processes, some in turn"
    if several == 1 and any(_exceeds(_size(readings, "hwm sum"), _least_size(readings)) for _, readings in executions):
        found["turn"] = _HELPERS
    sums = (("tree", "pss"), ("mprof", "tree"), ("hwm sum", "tree"))  # shared pages: more often in the first than once
    if overlapping > 1 and any(_any_exceeds(executions, *pair) for pair in sums):
        found["fork"] = "pages shared by fork"
    return found


def _memory(executions: Executions, interval_s: float) -> dict[str, str]:
    """Return the patterns of the memory, each with its evidence."""
    found = {}
    if any(_exceeds(_size(readings, "cgroup"), _least_size(readings)) for _, readings in executions):
        found["cache"] = "page cache"
    short_s = _SHORT_SAMPLES * interval_s
    if any(outcome.wall_s is not None and outcome.wall_s < short_s for outcome, _ in executions):
        found["spike"] = f"executions shorter than {_SHORT_SAMPLES} samples"
    elif any(_is_missed(_size(r, "hwm"), _size(r, "tree")) for _, r in executions):
        found["spike"] = "memory in use for less than a sample"
    return found


def _any_exceeds(executions: Executions, column: str, other: str) -> bool:
    return any(_exceeds(_size(readings, column), _size(readings, other)) for _, readings in executions)


def _size(readings: Mapping[str, Reading], column: str) -> int | None:
    return readings[column].size_bytes if column in readings else None


def _least_size(readings: Mapping[str, Reading]) -> int | None:
    """Return a lower bound of the command's peak: the samples, or its largest process if they missed its peak."""
    sampled = _size(readings, "tree")
    return None if sampled is None else max(sampled, _size(readings, "hwm") or 0)


def _exceeds(size: int | None, other: int | None) -> bool:
    return size is not None and other is not None and size > max(other * _NOTICED, other + _NOTICED_BYTES)


def _is_missed(mark: int | None, sampled: int | None) -> bool:
    """Return True if one process had more than the samples of all processes show."""
    return mark is not None and sampled is not None and mark - sampled > max(_MISSED_BYTES, _MISSED * mark)


def _large(processes: Sequence[ProcessEnd]) -> list[ProcessEnd]:
    highest = max((process.peak_bytes or 0 for process in processes), default=0)
    return [process for process in processes if (process.peak_bytes or 0) >= _LARGE * highest]


def _at_once(processes: Sequence[ProcessEnd]) -> int:
    """Return the highest number of large processes at one time."""
    changes = []
    for process in _large(processes):
        changes += [(process.start_s, 1), (process.end_s if process.end_s is not None else float("inf"), -1)]
    living = most = 0
    for _, change in sorted(changes):
        living += change
        most = max(most, living)
    return most
