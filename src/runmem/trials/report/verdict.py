"""Which methods to trust for the command, and why not the others: from their errors on known programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runmem.trials.methods import Column, columns_of
from runmem.trials.report.statistics import Spread, spread_of
from runmem.trials.trial import Execution, Trial
from runmem.units import MIB, format_bytes

__all__ = ["ColumnVerdict", "ControlError", "Verdict", "signed", "verdict_of"]

_TOLERATED_BYTES, _TOLERATED = MIB, 0.01
_NEAR = 0.1
_NO_CONTROL = "No control ran, so nothing says which method is right (--control auto runs some)."


@dataclass(frozen=True, slots=True)
class ControlError:
    """Error of a column on one pattern: the worst of all executions, signed, in bytes; and what was right there."""

    column: str
    pattern: str
    worst_bytes: int
    truth_bytes: int
    count: int

    @property
    def is_tolerable(self) -> bool:
        """Whether it is within 1 MiB or 1 %."""
        return abs(self.worst_bytes) <= max(_TOLERATED_BYTES, _TOLERATED * self.truth_bytes)

    @property
    def relative(self) -> float:
        """The error over the right answer."""
        return abs(self.worst_bytes) / self.truth_bytes


@dataclass(frozen=True, slots=True)
class ColumnVerdict:
    """What the controls say of one column.

    Attributes
    ----------
    column : Column
    start : str
        The way that the executions were started: a method may be right under one and wrong under another.
    errors : list of ControlError
        One a pattern.
    value : Spread or None
        What it told of the command (all variants together), in bytes.
    is_partial : bool
        Whether what it told of the command leaves a part out, so that the controls do not speak for it.
    """

    column: Column
    start: str
    errors: list[ControlError]
    value: Spread | None
    is_partial: bool = False

    @property
    def worst(self) -> ControlError | None:
        """The error that is largest relative to the right answer."""
        return max(self.errors, key=lambda error: error.relative, default=None)

    @property
    def is_trusted(self) -> bool:
        """Whether it was right on every control, and told all of the command."""
        return bool(self.errors) and not self.is_partial and all(error.is_tolerable for error in self.errors)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The columns under each start with what the controls say of them, and the conclusion in sentences."""

    columns: list[ColumnVerdict]
    sentences: list[str]

    def of(self, name: str, start: str) -> ColumnVerdict:
        """Return what is said of the column of that name under that start."""
        return next(each for each in self.columns if (each.column.name, each.start) == (name, start))


def signed(size_bytes: float) -> str:
    """Return an error with its sign and unit."""
    return f"{'-' if size_bytes < 0 else '+'}{format_bytes(abs(size_bytes), 2)}"


def verdict_of(trial: Trial) -> Verdict:
    """Judge every column of a trial, under each start, on the controls that were started so."""
    columns = []
    for start in (start.name for start in trial.plan.starts):
        started = [each for each in trial.executions if each.start == start]
        for column in columns_of(method for method in trial.methods if start in method.starts):
            readings = [
                each.readings[column.name] for each in started if each.counts and each.variant.role == "command"
            ]
            values = [float(reading.size_bytes) for reading in readings if reading.size_bytes is not None]
            partial = any(reading.is_partial for reading in readings)
            columns.append(ColumnVerdict(column, start, errors_of(column, started), spread_of(values), partial))
    return Verdict(columns, _sentences(trial, columns))


def errors_of(column: Column, executions: Sequence[Execution]) -> list[ControlError]:
    """Return the worst error of a column on each pattern of the controls."""
    found: dict[str, ControlError] = {}
    for each in executions:
        size = each.readings[column.name].size_bytes if column.name in each.readings else None
        if each.truth is None or not each.counts or size is None:
            continue
        right = each.truth.of(column.scope)
        before = found.get(each.truth.pattern)
        error = ControlError(column.name, each.truth.pattern, size - right, right, 1 + (before.count if before else 0))
        if before is not None and before.relative > error.relative:
            error = ControlError(before.column, before.pattern, before.worst_bytes, before.truth_bytes, error.count)
        found[each.truth.pattern] = error
    return list(found.values())


def _sentences(trial: Trial, columns: Sequence[ColumnVerdict]) -> list[str]:
    said = []
    if trial.kind is not None and trial.kind.description:
        said.append(f"The command: {trial.kind.description}.")
    if not any(column.errors for column in columns):
        return [*said, _NO_CONTROL]
    said += _unlike_any(trial)
    starts = list(dict.fromkeys(each.start for each in columns))
    for start in starts:
        under = f"Started by {start}: " if len(starts) > 1 else ""
        said += [under + text for text in _about_start(trial, [each for each in columns if each.start == start])]
    return said


def _unlike_any(trial: Trial) -> list[str]:
    """Say which controls the command is like, and none was run, because others were asked for."""
    ran = {each.truth.pattern for each in trial.executions if each.truth is not None and each.counts}
    left_out = [pattern for pattern in (trial.kind.patterns if trial.kind is not None else ()) if pattern not in ran]
    if not left_out:
        return []
    patterns = f"pattern{'s' if len(left_out) > 1 else ''} {', '.join(left_out)}"
    return [
        f"No control of the {patterns} was run, which the command is like: what is trusted here may "
        f"be wrong for it. Leave out --control, or give {' '.join(f'--control {pattern}' for pattern in left_out)} too."
    ]


def _about_start(trial: Trial, columns: Sequence[ColumnVerdict]) -> list[str]:
    if not any(each.errors for each in columns):
        return [_NO_CONTROL]
    said = []
    single = trial.kind is not None and trial.kind.is_one_process
    process = [each for each in columns if each.column.scope == "process"]
    tree = [each for each in columns if each.column.scope == "tree"]
    if single:
        said += _trust("Memory of the command (one process)", [*process, *tree])
    else:
        said += _trust("All processes together (what a node or a job must hold)", tree)
        said += _trust("The largest process alone", process)
    said += [_distrust(each) for each in columns if each.errors and not each.is_trusted]
    return said


def _trust(what: str, columns: Sequence[ColumnVerdict]) -> list[str]:
    trusted = [each for each in columns if each.is_trusted and each.value is not None]
    trusted.sort(key=lambda each: each.worst.relative if each.worst else 0.0)
    if trusted:
        named = ", ".join(f"{each.column.name} ({_value(each)})" for each in trusted)
        worst = max((error for each in trusted for error in each.errors), key=lambda error: abs(error.worst_bytes))
        return [f"{what}: trust {named}. On the controls they were off by {signed(worst.worst_bytes)} at most."]
    near = [each for each in columns if each.worst is not None and each.value is not None and not each.is_partial]
    if not near:
        return [f"{what}: no method that tells this could be used here."]
    best = min(near, key=lambda each: each.worst.relative if each.worst else 0.0)
    assert best.worst is not None
    hedge = "the nearest is" if best.worst.relative <= _NEAR else "even the nearest is far off:"
    return [
        f"{what}: no method was right on all controls; {hedge} {best.column.name} ({_value(best)}), off by "
        f"{signed(best.worst.worst_bytes)} of {format_bytes(best.worst.truth_bytes)} on control {best.worst.pattern}."
    ]


def _value(each: ColumnVerdict) -> str:
    if each.value is None:
        return "-"
    low, high = format_bytes(each.value.least), format_bytes(each.value.highest)
    return low if low == high else f"{low} to {high}"


def _distrust(each: ColumnVerdict) -> str:
    if each.is_partial:
        return f"Not {each.column.name}: it left a part of the command out ({each.column.low})."
    wrong = sorted((error for error in each.errors if not error.is_tolerable), key=lambda error: -error.relative)
    shown = ", ".join(f"{signed(error.worst_bytes)} on {error.pattern}" for error in wrong)
    signs = {error.worst_bytes > 0: each.column.high if error.worst_bytes > 0 else each.column.low for error in wrong}
    why = "; ".join(text for text in signs.values() if text) or "for no known reason: please look at the executions"
    return f"Not {each.column.name}: {shown} ({why})."
