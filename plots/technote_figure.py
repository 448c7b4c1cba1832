"""Draw plots/technote.png from two recorded trials on Slurm: one program, and numbers ten times apart.

    python plots/technote_figure.py [OUT]

The data, and the program `driver.py` that was measured, are in plots/data/technote; docs/trials.md has the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runmem.trials.report.recorded import read_trial
from runmem.trials.report.results import TrialResults, results_of
from runmem.units import MIB

PLOTS = Path(__file__).resolve().parent
DATA = PLOTS / "data" / "technote"
ONE = [
    ("hwm", "local", "hwm, local", "#0072b2", "o"),
    ("time", "local", "GNU time %M, local", "#56b4e9", "x"),
    ("hwm", "sbatch", "hwm, sbatch", "#7a5195", "+"),
    ("sacct MaxRSS", "sbatch", "sacct MaxRSS, sbatch", "#d55e00", "s"),
    ("sacct MaxRSS", "srun", "sacct MaxRSS, srun", "#b8860b", "^"),
    ("sstat AveRSS", "srun", "sstat AveRSS, srun", "#cc79a7", "D"),
]
STEPS = [
    ("sacct MaxRSS", "sbatch", "sacct MaxRSS, all steps", "#d55e00", "s"),
    ("sacct AveRSS", "sbatch", "sacct AveRSS, all steps", "#cc79a7", "D"),
    ("time", "sbatch", "GNU time %M around srun", "#56b4e9", "x"),
    ("sacct batch", "sbatch", "sacct, batch step", "#777777", "v"),
]


def panel(axis, results: TrialResults, series, title: str) -> None:
    """Draw every execution of some columns, and a line through the means."""
    for column, start, label, colour, mark in series:
        done = [e for e in results.trial.executions if e.counts and e.variant.role == "command" and e.start == start]
        known = [(int(e.variant.values["sensors"]), e.readings[column].size_bytes) for e in done]
        points = [(x, size / MIB) for x, size in known if size is not None]
        places = sorted({x for x, _ in points})
        means = [sum(y for x, y in points if x == at) / sum(x == at for x, _ in points) for at in places]
        axis.plot(places, means, color=colour, linewidth=1.2, marker=mark, markersize=8, label=label, fillstyle="none")
        axis.plot([x for x, _ in points], [y for _, y in points], ".", color=colour, markersize=4)
    axis.plot([1, 2, 4], [100, 200, 400], color="black", linewidth=0.8, linestyle=":", label="what the program touches")
    axis.set_yscale("log")
    axis.set_ylim(3, 600)
    axis.set_yticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "300"])
    axis.minorticks_off()
    axis.set_xticks([1, 2, 4])
    axis.set_xlabel("sensors")
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)


def main() -> None:
    """Draw the figure and print its path."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else PLOTS / "technote.png"
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    panel(left, results_of(read_trial(DATA / "one.json")), ONE, "One process, its peak held for 0.15 s")
    panel(
        right, results_of(read_trial(DATA / "steps.json")), STEPS, "Ten tasks by srun in a job, the peak held for 3 s"
    )
    left.set_ylabel("peak memory (MiB)")
    figure.savefig(out, dpi=130)
    print(out)


if __name__ == "__main__":
    main()
