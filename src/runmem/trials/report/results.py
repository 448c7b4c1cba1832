"""The results of a trial, and their tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runmem.trials.methods import METHODS, MethodColumn
from runmem.trials.report.grid import Grid
from runmem.trials.report.overhead import Overhead, overheads_of, wall_grid
from runmem.trials.report.statistics import Fit, Spread, linear_fit, spread_of
from runmem.trials.report.verdict import Verdict, signed, verdict_of
from runmem.trials.trial import Trial, TrialExecution
from runmem.trials.variants import Variant, numeric
from runmem.units import KIB, format_bytes

__all__ = ["Cell", "TrialResults", "results_of"]

_INSENSITIVE, _INSENSITIVE_BYTES = 0.01, 256 * KIB


@dataclass(frozen=True, slots=True)
class Cell:
    """One column for one variant under one start: the spread in bytes, and the reason for missing values."""

    variant: Variant
    start: str
    column: MethodColumn
    spread: Spread | None
    ratio: float | None
    reason: str | None


@dataclass(frozen=True)
class TrialResults:
    """The statistics of a trial.

    Attributes
    ----------
    trial : Trial
    cells : list of Cell
        Of the command's variants and the baseline.
    fits : dict of (str, str) to Fit
        Name of a start and of a column to the fit against the numeric variables.
    insensitive : list of (str, str)
        Starts and columns whose values do not change with the variables.
    verdict : Verdict
    overheads : list of Overhead
        Of each command and the baseline, under each start.
    """

    trial: Trial
    cells: list[Cell]
    fits: dict[tuple[str, str], Fit]
    insensitive: list[tuple[str, str]]
    verdict: Verdict
    overheads: list[Overhead]

    def grids(self) -> list[Grid]:
        """Return the tables in reading order."""
        found = [self._memory(), wall_grid(self.overheads, self._several_starts)]
        if self.fits:
            found.append(self._fits())
        found.append(self._controls())
        found.append(self._methods())
        return [grid for grid in found if grid.rows]

    def sentences(self) -> list[str]:
        """Return the conclusions."""
        return [*self.verdict.sentences, *self._about_sweep(), *self._about_overhead()]

    @property
    def _several_starts(self) -> bool:
        return len(self.trial.plan.starts) > 1

    def _memory(self) -> Grid:
        baseline = any(cell.ratio is not None for cell in self.cells)
        several_starts = self._several_starts
        titles = ["Run", *(["Start"] if several_starts else []), "Method", "Mean", "Std dev", "Min", "Max", "n"]
        titles += ["x baseline"] if baseline else []
        titles += ["Error on controls", "Note"]
        rows, last = [], None
        for cell in self.cells:
            judged = self.verdict.of(cell.column.name, cell.start)
            label = cell.variant.label if (cell.variant, cell.start) != last else ""
            last = (cell.variant, cell.start)
            row = [label, *([cell.start] if several_starts else []), cell.column.name, *_numbers(cell.spread)]
            if baseline:
                row.append("-" if cell.ratio is None else f"{cell.ratio:.2f}")
            row.append("-" if judged.worst is None else f"{signed(judged.worst.worst_bytes)} ({judged.worst.pattern})")
            trusted = judged.is_trusted and cell.spread is not None
            overhead = self._overhead_note(cell)
            note = "; ".join(text for text in ("trusted" if trusted else "", cell.reason, overhead) if text)
            rows.append([*row, note])
        right = {"Mean", "Std dev", "Min", "Max", "n", "x baseline", "Error on controls"}
        return Grid("Peak memory", titles, rows, right)

    def _fits(self) -> Grid:
        rows = []
        for (start, column), fit in self.fits.items():
            for slope in fit.slopes:
                interval = "-"
                if slope.low is not None and slope.high is not None:
                    interval = f"{signed(slope.low)} .. {signed(slope.high)}"
                flag = "" if slope.is_seen else "no effect seen"
                if (start, column) in self.insensitive:
                    flag = "insensitive to the workload"
                quality = [format_bytes(fit.intercept), f"{fit.explained:.3f}", str(fit.count), flag]
                rows.append([column, start, slope.variable, signed(slope.value), interval, *quality])
        titles = ["Method", "Start", "Variable", "Memory for one more", "95 % interval", "At 0", "R2", "n", "Note"]
        right = {"Memory for one more", "At 0", "R2", "n"}
        return Grid("Memory against each variable (linear fit)", titles, rows, right)

    def _controls(self) -> Grid:
        patterns = list(dict.fromkeys(each.truth.pattern for each in self.trial.executions if each.truth is not None))
        truths = {each.truth.pattern: each.truth for each in self.trial.executions if each.truth is not None}
        rows = []
        several = self._several_starts
        for judged in self.verdict.columns:
            errors = {error.pattern: signed(error.worst_bytes) for error in judged.errors}
            start = [judged.start] if several else []
            rows.append(
                [*start, judged.column.name, judged.column.scope, *(errors.get(each, "-") for each in patterns)]
            )
        if not patterns:
            return Grid("", [], [])
        for scope in ("process", "tree"):
            start = [""] if several else []
            rows.append([*start, "(right answer)", scope, *(format_bytes(truths[each].of(scope)) for each in patterns)])
        titles = [*(["Start"] if several else []), "Method", "Scope", *patterns]
        return Grid("Error on controls (the worst of all executions)", titles, rows, set(patterns))

    def _methods(self) -> Grid:
        rows = [[column.name, column.scope, column.kind, column.meaning] for column in self.trial.columns]
        rows += [[name, "-", "-", f"not available: {why}"] for name, why in self.trial.unavailable.items()]
        return Grid("Methods", ["Method", "Scope", "Kind", "What it measures"], rows)

    def _overhead_note(self, cell: Cell) -> str | None:
        if not any(METHODS[name].traces and cell.column in METHODS[name].columns for name in METHODS):
            return None
        return next((o.note for o in self.overheads if (o.variant, o.start) == (cell.variant, cell.start)), None)

    def _about_overhead(self) -> list[str]:
        under = {each.start: f" by {each.start}" if self._several_starts else "" for each in self.overheads}
        return [text for each in self.overheads for text in each.sentences(under[each.start])]

    def _about_sweep(self) -> list[str]:
        if not self.insensitive:
            return []
        measured = {(cell.start, cell.column.name) for cell in self.cells if cell.spread is not None}
        if len(self.insensitive) == len(measured):
            return [
                "No method saw the memory change with the variables: all are insensitive to the workload "
                f"({self._named(self.insensitive)})."
            ]
        largest = [each for each in self.insensitive if self._is_largest_process(*each)]
        others = [each for each in self.insensitive if each not in largest]
        found = []
        if others:
            found.append(
                f"{self._named(others)}: insensitive to the workload, while other methods saw it change: a constant is "
                "the memory of a wrapper, a launcher or the interpreter, not of the program."
            )
        if largest:
            found.append(
                f"{self._named(largest)}: insensitive to the workload: the largest process has the same size at all "
                "values; the number or the size of the other processes changes."
            )
        return found

    def _is_largest_process(self, start: str, column: str) -> bool:
        """Return True if a constant is the size of the largest process, which `hwm` shows as well."""
        if (start, "hwm") not in self.insensitive or self.verdict.of("hwm", start).is_partial:
            return False
        judged, largest = self.verdict.of(column, start), self.verdict.of("hwm", start)
        if judged.column.scope != "process" or judged.value is None or largest.value is None:
            return False
        return judged.value.mean >= largest.value.mean * (1 - _INSENSITIVE)

    def _named(self, columns: Sequence[tuple[str, str]]) -> str:
        several = self._several_starts
        return ", ".join(f"{column} by {start}" if several else column for start, column in columns)


def _numbers(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["-", "-", "-", "-", "0"]
    sizes = (spread.mean, spread.deviation, spread.least, spread.highest)
    return [*(format_bytes(size) for size in sizes), str(spread.count)]


def results_of(trial: Trial) -> TrialResults:
    """Return the results of the executions so far."""
    cells = _cells(trial)
    fits, insensitive = {}, []
    commands = [each for each in trial.executions if each.counts and each.variant.role == "command"]
    for start in trial.plan.starts:
        started = [each for each in commands if each.start == start.name]
        for column in trial.columns:
            fit = _fit([each for each in started if each.readings[column.name].size_bytes is not None], column)
            if fit is not None:
                fits[start.name, column.name] = fit
            if _is_insensitive([c for c in cells if c.column is column and c.start == start.name]):
                insensitive.append((start.name, column.name))
    return TrialResults(trial, cells, fits, insensitive, verdict_of(trial), overheads_of(trial))


def _cells(trial: Trial) -> list[Cell]:
    found: list[Cell] = []
    bases: dict[tuple[str, str], Spread | None] = {}
    for variant in sorted(trial.plan.variants, key=lambda each: each.role != "baseline"):
        for start in trial.plan.starts:
            done = trial.counted(variant, start.name)
            for column in trial.columns_under(start):
                readings = [each.readings[column.name] for each in done]
                spread = spread_of([float(r.size_bytes) for r in readings if r.size_bytes is not None])
                reasons = [r.reason for r in readings if r.reason and not r.reason.endswith(" samples")]
                if variant.role == "baseline":
                    bases.setdefault((start.name, column.name), spread)
                base = bases.get((start.name, column.name))
                ratio = spread.mean / base.mean if spread and base and variant.role == "command" else None
                found.append(Cell(variant, start.name, column, spread, ratio, reasons[0] if reasons else None))
    return found


def _fit(executions: Sequence[TrialExecution], column: MethodColumn) -> Fit | None:
    variables = {}
    for name in executions[0].variant.values if executions else ():
        numbers = [numeric(each.variant.values[name]) for each in executions]
        known = [number for number in numbers if number is not None]
        if len(known) == len(numbers) and len(set(known)) > 1:
            variables[name] = known
    values = [float(each.readings[column.name].size_bytes or 0) for each in executions]
    return linear_fit(variables, values) if variables else None


def _is_insensitive(cells: Sequence[Cell]) -> bool:
    """Return True if a column has the same mean for every variant of a sweep, within 1 % or 256 KiB."""
    means = [cell.spread.mean for cell in cells if cell.spread is not None and cell.variant.role == "command"]
    if len(means) < 2:
        return False
    return max(means) - min(means) <= max(_INSENSITIVE * max(means), _INSENSITIVE_BYTES)
