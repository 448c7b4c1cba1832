"""The folder that a trial writes: JSON, CSV, Markdown and figures."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.store.output import check_folder, check_output, write_file
from runmem.trials.report.figure import draw_methods, draw_sweep, swept
from runmem.trials.report.overhead import Overhead
from runmem.trials.report.results import TrialResults
from runmem.trials.trial import TrialExecution
from runmem.trials.variants import Variant

__all__ = ["claim_folder", "document", "draw_all", "write_folder"]

_TEXTS = ("trial.json", "executions.csv", "statistics.csv", "trial.md")
_METHODS = "methods.png"


def claim_folder(folder: Path, variants: Sequence[Variant] = ()) -> None:
    """Make the folder and check that a trial can be written there, before any work is done.

    Raises SettingError if the folder cannot be made or written, or contains a trial.

    Parameters
    ----------
    variants : sequence of Variant
        The variants of the trial, which determine the figures.
    """
    try:
        check_folder(folder)
    except OSError as error:
        raise SettingError(f"--output {folder}: nothing can be written there: {error.strerror}") from error
    if (folder / "trial.json").exists():
        raise SettingError(f"--output {folder}: it contains a trial already (trial.json): name another folder")
    for name in (*_TEXTS, _METHODS, *map(_sweep_file, swept(variants))):
        check_output(folder / name, "--output")


def document(results: TrialResults, provenance: JsonObject) -> JsonObject:
    """Return the whole trial as a JSON object: sizes in bytes, times in seconds."""
    trial, plan = results.trial, results.trial.plan
    return {
        "provenance": provenance,
        "plan": {
            "variants": [
                {"label": v.label, "role": v.role, "command": list(v.command), "values": v.values, "cpus": list(v.cpus)}
                for v in plan.variants
            ],
            "methods": [method.name for method in plan.methods],
            "starts": [start.name for start in plan.starts],
            "repeat": plan.repeat, "warmup": plan.warmup, "seed": plan.seed, "interval_s": plan.interval_s,
            "job": asdict(plan.job), "overhead": plan.overhead,
        },
        "methods": [
            {"method": method.name, "assumptions": method.assumptions, "limitations": method.limitations,
             "columns": [asdict(column) for column in method.columns]}
            for method in trial.methods
        ],
        "unavailable": trial.unavailable,
        "kind": None if trial.kind is None else asdict(trial.kind),
        "stopped": trial.stopped,
        "exit_code": trial.exit_code,
        "executions": [_execution(each) for each in trial.executions],
        "statistics": [_cell(results, at) for at in range(len(results.cells))],
        "fits": [
            {"start": start, "column": column, "intercept_bytes": fit.intercept, "explained": fit.explained,
             "count": fit.count, "insensitive": (start, column) in results.insensitive,
             "slopes": [{"variable": s.variable, "bytes_per_unit": s.value, "low": s.low, "high": s.high}
                        for s in fit.slopes]}
            for (start, column), fit in results.fits.items()
        ],
        "control_errors": [
            {"start": judged.start, "column": error.column, "pattern": error.pattern, "worst_bytes": error.worst_bytes,
             "truth_bytes": error.truth_bytes, "count": error.count, "tolerable": error.is_tolerable}
            for judged in results.verdict.columns for error in judged.errors
        ],
        "overheads": [_overhead(each) for each in results.overheads],
        "trusted": [{"start": judged.start, "column": judged.column.name}
                    for judged in results.verdict.columns if judged.is_trusted],
        "verdict": results.sentences(),
    }  # fmt: skip


def _execution(each: TrialExecution) -> JsonObject:
    truth = each.truth
    return {
        "label": each.variant.label, "role": each.variant.role, "values": each.variant.values, "start": each.start,
        "repeat": each.repeat, "warmup": each.repeat == 0, "started_s": each.started_s, "wall_s": each.outcome.wall_s,
        "cpu_s": each.outcome.cpu_s, "exit_code": each.outcome.exit_code, "job": each.outcome.job,
        "unseen": each.outcome.unseen,
        "processes": each.process_count or None, "watched_by": each.watch.value, "stopped_s": each.outcome.stopped_s,
        "command": shlex.join(each.variant.command), "output": each.output or None,
        "truth": None if truth is None else asdict(truth),
        "readings": {name: {"bytes": read.size_bytes, "note": read.reason, "partial": read.is_partial}
                     for name, read in each.readings.items()},
    }  # fmt: skip


def _overhead(each: Overhead) -> JsonObject:
    return {
        "label": each.variant.label, "start": each.start, "stopped_share": each.stopped_share,
        "walls": [{"watched_by": watch.value, "seconds": walls, "overhead": each.ratio(watch)}
                  for watch, walls in each.wall_times_s.items()],
    }  # fmt: skip


def _cell(results: TrialResults, at: int) -> JsonObject:
    cell = results.cells[at]
    spread = cell.spread
    sizes = (spread.mean, spread.deviation, spread.least, spread.highest) if spread else (None,) * 4
    return {
        "label": cell.variant.label, "start": cell.start, "column": cell.column.name,
        "count": spread.count if spread else 0,
        **dict(zip(("mean_bytes", "deviation_bytes", "least_bytes", "highest_bytes"), sizes, strict=True)),
        "ratio_to_baseline": cell.ratio, "note": cell.reason,
    }  # fmt: skip


def write_folder(results: TrialResults, provenance: JsonObject, folder: Path) -> list[Path]:
    """Write ``trial.json``, ``executions.csv``, ``statistics.csv``, ``trial.md`` and the figures; return the paths.

    Raises SettingError if a file cannot be written.
    """
    whole = document(results, provenance)
    try:
        written = [folder / name for name in _TEXTS]
        write_file(written[0], json.dumps(whole, indent=1) + "\n")
        _write_csv(written[1], _execution_rows(results))
        _write_csv(written[2], [{"label": "", "start": "", **row} for row in whole["statistics"]])
        written += draw_all(results, folder)
        write_file(written[3], markdown(results, whole, written[4:]))
    except OSError as error:
        raise SettingError(f"--output {folder}: {error.filename} cannot be written: {error.strerror}") from error
    return written


def draw_all(results: TrialResults, folder: Path) -> list[Path]:
    """Draw ``methods.png`` and ``sweep-NAME.png`` for each variable; return the paths, none without a value."""
    if not any(cell.spread for cell in results.cells):
        return []
    variables = swept(results.trial.plan.variants)
    sweeps = [draw_sweep(results, name, folder / _sweep_file(name)) for name in variables]
    return [draw_methods(results, folder / _METHODS), *sweeps]


def _sweep_file(variable: str) -> str:
    return f"sweep-{variable}.png"


def _execution_rows(results: TrialResults) -> list[JsonObject]:
    names = list(dict.fromkeys(name for each in results.trial.executions for name in each.variant.values))
    rows = []
    for each in results.trial.executions:
        rows.append({
            "label": each.variant.label, "role": each.variant.role, "start": each.start, "repeat": each.repeat,
            "watched_by": each.watch.value,
            **{name: each.variant.values.get(name) for name in names}, "wall_s": each.outcome.wall_s,
            "exit_code": each.outcome.exit_code,
            "truth_process_bytes": each.truth.process_bytes if each.truth else None,
            "truth_tree_bytes": each.truth.tree_bytes if each.truth else None,
            **{f"{column.name.replace(' ', '_')}_bytes": each.readings[column.name].size_bytes
               for column in results.trial.columns},
        })  # fmt: skip
    return rows


def _write_csv(path: Path, rows: list[JsonObject]) -> None:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["label"])
    writer.writeheader()
    writer.writerows(rows)
    write_file(path, text.getvalue())


def markdown(results: TrialResults, whole: JsonObject, figures: list[Path]) -> str:
    """Return the report in Markdown."""
    plan = results.trial.plan
    parts = ["# Memory trial\n", *(f"- {sentence}" for sentence in results.sentences()), ""]
    parts += [f"![{path.stem}]({path.name})\n" for path in figures]
    parts += [grid.to_markdown() for grid in results.grids()]
    parts += ["## To repeat it\n"]
    parts += [f"- {v.label}: `{shlex.join(v.command)}`" for v in plan.variants]
    parts += [f"- repeat {plan.repeat}, warmup {plan.warmup}, seed {plan.seed}, interval {plan.interval_s:g} s"]
    for name, value in whole["provenance"].items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        parts.append(f"- {name.replace('_', ' ')}: {'-' if text is None else text}")
    return "\n".join(parts) + "\n"
