"""Draw the README's figure, plots/wordcount.png, from the recorded run in plots/data.

    python plots/run_figure.py [RUN] [OUT]

RUN is a run directory (default: the last one in plots/data, by name) and OUT the figure (default: plots/wordcount.png).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runmem.errors import RunmemError
from runmem.reports.figure import draw, panels_of_run
from runmem.store.run import read_run

PLOTS = Path(__file__).resolve().parent


def recorded_run() -> Path:
    """Return the recorded run in plots/data."""
    runs = sorted(path.parent for path in (PLOTS / "data").glob("*/run.json"))
    if not runs:
        raise SystemExit(f"no recorded run in {PLOTS / 'data'}: name a run directory")
    return runs[-1]


def main() -> None:
    """Draw the figure and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path, default=PLOTS / "wordcount.png")
    arguments = parser.parse_args()
    try:
        run = read_run(arguments.run or recorded_run())
        app = run.provenance.get("app") or run.directory.root.resolve().name
        draw(panels_of_run(run), arguments.out, f"{app}: memory over time", run.provenance.get("started_s"))
    except RunmemError as error:
        raise SystemExit(f"run_figure.py: {error}") from error
    print(arguments.out)


if __name__ == "__main__":
    main()
