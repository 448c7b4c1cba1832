"""Figures of a trial: the methods against each other, and memory against each variable of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runmem.trials.results import Cell, Results
from runmem.trials.variants import numeric
from runmem.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_methods", "draw_sweep", "swept"]

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#b8860b",
    "#7a5195",
    "#777777",
    "#c0392b",
    "#2c3e50",
)
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_MOST_VARIANTS = 12


def swept(results: Results) -> list[str]:
    """Return the variables that have more than one value."""
    values: dict[str, set[str]] = {}
    for variant in results.trial.plan.variants:
        for name, value in variant.values.items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1]


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _scale(cells: list[Cell]) -> tuple[int, str]:
    highest = max((cell.spread.highest for cell in cells if cell.spread is not None), default=0.0)
    return (GIB, "GiB") if highest >= 8 * GIB else (MIB, "MiB") if highest >= MIB else (KIB, "KiB")


def draw_methods(results: Results, path: Path) -> Path:
    """Draw what each method told of each variant, every execution a point, and the error on the controls beside it."""
    from matplotlib.lines import Line2D

    cells = [cell for cell in results.cells if cell.spread is not None]
    scale, unit = _scale(cells)
    variants = list(dict.fromkeys((cell.variant.label, cell.start) for cell in cells))[:_MOST_VARIANTS]
    scopes = {cell.column.name: cell.column.scope for cell in cells}
    columns = list(scopes)
    figure, axis = _figure(1.4 + 0.45 * len(columns))
    for number, (label, start) in enumerate(variants):
        shift = 0.0 if len(variants) == 1 else 0.6 * (number / (len(variants) - 1) - 0.5)
        colour = _COLOURS[number % len(_COLOURS)]
        for each in results.trial.executions:
            if not each.counts or each.variant.label != label or each.start != start:
                continue
            known = [(at, each.readings[name].size_bytes) for at, name in enumerate(columns)]
            points = [(size / scale, at + shift) for at, size in known if size is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], "o", color=colour, alpha=0.6, markersize=5)
    names = [f"{name}\n{scopes[name]}" for name in columns]
    axis.set_yticks(range(len(columns)), names, fontsize=8)
    for tick, name in zip(axis.get_yticklabels(), columns, strict=True):
        if all(each.is_trusted for each in results.verdict.columns if each.column.name == name):
            tick.set_fontweight("bold")
    axis.set_ylim(len(columns) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.set_xlabel(f"peak memory ({unit})")
    axis.set_title("What each method told (bold: right on the controls)", loc="left", fontsize=11, fontweight="bold")
    several = len({start for _, start in variants}) > 1
    handles = [
        Line2D([], [], marker="o", linestyle="", color=_COLOURS[number % len(_COLOURS)],
               label=f"{label} by {start}" if several else label)
        for number, (label, start) in enumerate(variants)
    ]  # fmt: skip
    axis.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False, borderaxespad=0
    )
    figure.savefig(path, dpi=130)
    return path


def draw_sweep(results: Results, variable: str, path: Path) -> Path:
    """Draw memory against one variable: a line a method through the means over the other variables, points for each."""
    cells = [c for c in results.cells if c.spread is not None and variable in c.variant.values]
    scale, unit = _scale(cells)
    values = list(dict.fromkeys(cell.variant.values[variable] for cell in cells))
    numbers = [numeric(value) for value in values]
    is_numeric = all(number is not None for number in numbers)
    places = {value: number if is_numeric and number is not None else float(at)
              for at, (value, number) in enumerate(zip(values, numbers, strict=True))}  # fmt: skip
    figure, axis = _figure(4.6)
    several = len({cell.start for cell in cells}) > 1
    series = list(dict.fromkeys((cell.column.name, cell.start) for cell in cells))
    for number, (name, start) in enumerate(series):
        own = [(places[c.variant.values[variable]], c.spread.mean / scale)
               for c in cells if (c.column.name, c.start) == (name, start) and c.spread is not None]  # fmt: skip
        ordered = sorted({place for place, _ in own})
        means = [sum(y for x, y in own if x == place) / sum(x == place for x, _ in own) for place in ordered]
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        label = f"{name} by {start}" if several else name
        label += ": insensitive" if (start, name) in results.insensitive else ""
        axis.plot(ordered, means, color=colour, linewidth=1.2, label=label, alpha=0.9,
                  linestyle=(0, (4, 2 + number % 3)) if number % 2 else "-")  # fmt: skip
        axis.plot([x for x, _ in own], [y for _, y in own], mark, color=colour, markersize=5, alpha=0.7)
    axis.set_xticks(list(places.values()), list(places))
    axis.set_ylim(bottom=0)
    axis.set_xlabel(variable)
    axis.set_ylabel(f"peak memory ({unit})")
    axis.set_title(f"Peak memory against {variable}", loc="left", fontsize=11, fontweight="bold")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False, borderaxespad=0)
    figure.savefig(path, dpi=130)
    return path
