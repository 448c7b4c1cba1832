"""Draw the figures of a recorded trial from its trial.json.

    python plots/trial_figures.py [TRIAL] [OUT]

TRIAL is a trial.json or its folder, and OUT a folder (default: that of TRIAL). Without arguments, draw the figures of
docs/trials.md from plots/data/trial to plots/trial.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runmem.errors import RunmemError
from runmem.trials.report.files import draw_all
from runmem.trials.report.recorded import read_trial
from runmem.trials.report.results import results_of

PLOTS = Path(__file__).resolve().parent


def main() -> None:
    """Draw the figures and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path)
    arguments = parser.parse_args()
    trial = arguments.trial or PLOTS / "data" / "trial"
    path = trial / "trial.json" if trial.is_dir() else trial
    out = arguments.out or (path.parent if arguments.trial else PLOTS / "trial")
    try:
        results = results_of(read_trial(path))
        out.mkdir(parents=True, exist_ok=True)
        for figure in draw_all(results, out):
            print(figure)
    except (RunmemError, OSError) as error:
        raise SystemExit(f"trial_figures.py: {error}") from error


if __name__ == "__main__":
    main()
