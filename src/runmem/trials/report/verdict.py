"""Decide which methods to trust for the command, from their errors on the controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runmem.trials.methods import MethodColumn
from runmem.trials.report.statistics import Spread, spread_of
from runmem.trials.trial import Trial, TrialExecution
from runmem.units import MIB, format_bytes

__all__ = ["ColumnVerdict", "ControlError", "Verdict", "signed", "verdict_of"]

_TOLERATED_BYTES, _TOLERATED = MIB, 0.01
_NEAR = 0.1
_NO_CONTROL = "No control ran, so it is not known which method is right (--control auto runs some)."


@dataclass(frozen=True, slots=True)
class ControlError:
    """Error of a column on one pattern: the worst of all executions, signed, in bytes, with the true value."""

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
        """The absolute error over the true value."""
        return abs(self.worst_bytes) / self.truth_bytes


@dataclass(frozen=True, slots=True)
class ColumnVerdict:
    """The errors of one column on the controls, and its value for the command.

    Attributes
    ----------
    column : MethodColumn
    start : str
        Name of the start: a method may be right under one and wrong under another.
    errors : list of ControlError
        One for each pattern.
    value : Spread or None
        The readings of the command (all variants together), in bytes.
    is_partial : bool
        Whether a reading of the command leaves out a part of it, so that the controls prove nothing.
    """

    column: MethodColumn
    start: str
    errors: list[ControlError]
    value: Spread | None
    is_partial: bool = False

    @property
    def worst(self) -> ControlError | None:
        """The error with the largest ratio to the true value."""
        return max(self.errors, key=lambda error: error.relative, default=None)

    @property
    def is_trusted(self) -> bool:
        """Whether it was right on every control, and measured all of the command."""
        return bool(self.errors) and not self.is_partial and all(error.is_tolerable for error in self.errors)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdicts on the columns under each start, and the conclusion in sentences."""

    columns: list[ColumnVerdict]
    sentences: list[str]

    def of(self, name: str, start: str) -> ColumnVerdict:
        """Return the verdict on the column with that name under that start."""
        return next(each for each in self.columns if (each.column.name, each.start) == (name, start))


def signed(size_bytes: float) -> str:
    """Format an error with its sign and unit."""
    return f"{'-' if size_bytes < 0 else '+'}{format_bytes(abs(size_bytes), 2)}"


def verdict_of(trial: Trial) -> Verdict:
    """Judge every column of a trial, under each start, by the controls with that start."""
    columns = []
    for start in trial.plan.starts:
        started = [each for each in trial.executions if each.start == start.name]
        commands = [each for each in started if each.counts and each.variant.role == "command"]
        for column in trial.columns_under(start):
            readings = [each.readings[column.name] for each in commands]
            values = [float(reading.size_bytes) for reading in readings if reading.size_bytes is not None]
            partial = any(reading.is_partial for reading in readings)
            columns.append(ColumnVerdict(column, start.name, errors_of(column, started), spread_of(values), partial))
    return Verdict(columns, _sentences(trial, columns))


def errors_of(column: MethodColumn, executions: Sequence[TrialExecution]) -> list[ControlError]:
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
    found = []
    if trial.kind is not None and trial.kind.description:
        found.append(f"The command: {trial.kind.description}.")
    if not any(column.errors for column in columns):
        return [*found, _NO_CONTROL]
    found += _missing_controls(trial)
    starts = list(dict.fromkeys(each.start for each in columns))
    for start in starts:
        under = f"Started by {start}: " if len(starts) > 1 else ""
        found += [under + text for text in _about_start(trial, [each for each in columns if each.start == start])]
    return found


def _missing_controls(trial: Trial) -> list[str]:
    """Name the controls that resemble the command and were not run."""
    ran = {each.truth.pattern for each in trial.executions if each.truth is not None and each.counts}
    missing = [pattern for pattern in (trial.kind.patterns if trial.kind is not None else ()) if pattern not in ran]
    if not missing:
        return []
    patterns = f"pattern{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    return [
        f"No control of the {patterns} was run, which the command resembles: a method that is trusted here may "
        f"be wrong for it. Leave out --control, or add {' '.join(f'--control {pattern}' for pattern in missing)}."
    ]


def _about_start(trial: Trial, columns: Sequence[ColumnVerdict]) -> list[str]:
    if not any(each.errors for each in columns):
        return [_NO_CONTROL]
    found = []
    single = trial.kind is not None and trial.kind.is_one_process
    process = [each for each in columns if each.column.scope == "process"]
    tree = [each for each in columns if each.column.scope == "tree"]
    if single:
        found += _trust("Memory of the command (one process)", [*process, *tree])
    else:
        found += _trust("All processes together (the memory that a node or a job needs)", tree)
        found += _trust("The largest process alone", process)
    found += [_distrust(each) for each in columns if each.errors and not each.is_trusted]
    return found


def _trust(what: str, columns: Sequence[ColumnVerdict]) -> list[str]:
    trusted = [each for each in columns if each.is_trusted and each.value is not None]
    trusted.sort(key=lambda each: each.worst.relative if each.worst else 0.0)
    if trusted:
        named = ", ".join(f"{each.column.name} ({_value(each)})" for each in trusted)
        worst = max((error for each in trusted for error in each.errors), key=lambda error: abs(error.worst_bytes))
        return [f"{what}: trust {named}. On the controls they were off by {signed(worst.worst_bytes)} at most."]
    near = [each for each in columns if each.worst is not None and each.value is not None and not each.is_partial]
    if not near:
        return [f"{what}: no method that measures this could be used here."]
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
        return f"Not {each.column.name}: it left out a part of the command ({each.column.low})."
    wrong = sorted((error for error in each.errors if not error.is_tolerable), key=lambda error: -error.relative)
    shown = ", ".join(f"{signed(error.worst_bytes)} on {error.pattern}" for error in wrong)
    signs = {error.worst_bytes > 0: each.column.high if error.worst_bytes > 0 else each.column.low for error in wrong}
    why = "; ".join(text for text in signs.values() if text) or "for no known reason: please look at the executions"
    return f"Not {each.column.name}: {shown} ({why})."
