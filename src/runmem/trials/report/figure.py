"""Figures of a trial: the methods compared, and memory against each variable of a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runmem.store.output import write_file
from runmem.trials.report.results import Cell, TrialResults
from runmem.trials.variants import Variant, numeric
from runmem.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_methods", "draw_sweep", "swept"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#7a5195", "#777777", "#c0392b")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_BESIDE: Any = {
    "loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "fontsize": 8, "frameon": False, "borderaxespad": 0,
}  # fmt: skip
_MOST_VARIANTS = 12
_SCOPES = {"process": "one process", "tree": "all processes"}


def swept(variants: Iterable[Variant]) -> list[str]:
    """Return the variables with more than one value."""
    values: dict[str, set[str]] = {}
    for variant in variants:
        for name, value in variant.values.items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1]


def _figure(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 if panels == 1 else 4.4 * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _saved(figure: Figure, path: Path) -> Path:
    content = BytesIO()
    figure.savefig(content, dpi=130, format="png")
    write_file(path, content.getvalue())
    return path


def _scale(cells: list[Cell]) -> tuple[int, str]:
    highest = max((cell.spread.highest for cell in cells if cell.spread is not None), default=0.0)
    return (GIB, "GiB") if highest >= 8 * GIB else (MIB, "MiB") if highest >= MIB else (KIB, "KiB")


def draw_methods(results: TrialResults, path: Path) -> Path:
    """Draw the readings of each method for each variant, one point for each execution."""
    from matplotlib.lines import Line2D

    cells = [cell for cell in results.cells if cell.spread is not None]
    scale, unit = _scale(cells)
    variants = list(dict.fromkeys((cell.variant.label, cell.start) for cell in cells))[:_MOST_VARIANTS]
    scopes = {cell.column.name: cell.column.scope for cell in cells}
    columns = list(scopes)
    figure, (axis,) = _figure(1.4 + 0.45 * len(columns))
    for number, (label, start) in enumerate(variants):
        shift = 0.0 if len(variants) == 1 else 0.6 * (number / (len(variants) - 1) - 0.5)
        colour = _COLOURS[number % len(_COLOURS)]
        for each in results.trial.executions:
            if not each.counts or each.variant.label != label or each.start != start:
                continue
            known = [(at, each.readings[name].size_bytes) for at, name in enumerate(columns)]
            points = [(size / scale, at + shift) for at, size in known if size is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], "o", color=colour, alpha=0.6, markersize=5)
    names = [f"{name}\n{_SCOPES.get(scopes[name], scopes[name])}" for name in columns]
    axis.set_yticks(range(len(columns)), names, fontsize=8)
    for tick, name in zip(axis.get_yticklabels(), columns, strict=True):
        if all(each.is_trusted for each in results.verdict.columns if each.column.name == name):
            tick.set_fontweight("bold")
    axis.set_ylim(len(columns) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.set_xlabel(f"peak memory ({unit})")
    axis.set_title("Readings of each method (bold: right on the controls)", loc="left", fontsize=11, fontweight="bold")
    several = len({start for _, start in variants}) > 1
    names = [f"{label} by {start}" if several else label for label, start in variants]
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(len(names))]
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    axis.legend(handles=handles, **_BESIDE)
    return _saved(figure, path)


def draw_sweep(results: TrialResults, variable: str, path: Path) -> Path:
    """Draw memory against one variable: a panel for each start, a line for each method, a point for each variant."""
    cells = [c for c in results.cells if c.spread is not None and variable in c.variant.values]
    scale, unit = _scale(cells)
    starts = list(dict.fromkeys(cell.start for cell in cells))
    figure, axes = _figure(4.6, len(starts))
    positions = _positions(cells, variable)
    columns = list(dict.fromkeys(cell.column.name for cell in cells))
    for start, axis in zip(starts, axes, strict=True):
        own = [cell for cell in cells if cell.start == start]
        for number, name in enumerate(columns):
            constant = ": insensitive" if (start, name) in results.insensitive else ""
            points = [
                (positions[c.variant.values[variable]], c.spread.mean / scale)
                for c in own
                if c.column.name == name and c.spread is not None
            ]
            if points:
                _draw_series(axis, points, number, name + constant)
        axis.set_xticks(list(positions.values()), list(positions))
        axis.set_xlabel(variable)
        title = f"Peak memory against {variable}" if len(starts) == 1 else f"Started by {start}"
        axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
        if len(starts) == 1:
            axis.legend(**_BESIDE)
        else:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8, frameon=False)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel(f"peak memory ({unit})")
    return _saved(figure, path)


def _positions(cells: list[Cell], variable: str) -> dict[str, float]:
    """Return the position of each value of a variable: the value if all are numbers, else its index."""
    values = list(dict.fromkeys(cell.variant.values[variable] for cell in cells))
    numbers = [number for value in values if (number := numeric(value)) is not None]
    return dict(zip(values, numbers if len(numbers) == len(values) else map(float, range(len(values))), strict=True))


def _draw_series(axis: Axes, points: list[tuple[float, float]], number: int, label: str) -> None:
    """Draw the points of a method, and a line through their mean at each position."""
    ordered = sorted({x for x, _ in points})
    means = [sum(y for x, y in points if x == at) / sum(x == at for x, _ in points) for at in ordered]
    colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
    dashes = (0, (4, 2 + number % 3)) if number % 2 else "-"
    line: Any = {"linestyle": dashes, "linewidth": 1.2, "alpha": 0.9, "marker": mark, "markersize": 5}
    axis.plot(ordered, means, color=colour, label=label, **line)
    axis.plot([x for x, _ in points], [y for _, y in points], mark, color=colour, markersize=5, alpha=0.7)
