"""The tables of docs/trials.md are those of the recorded trials, and its figures come from them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runmem.trials.recorded import read_trial
from runmem.trials.results import Results, results_of
from runmem.units import KIB

ROOT = Path(__file__).parents[2]
DATA = ROOT / "plots" / "data" / "technote"
PAGE = (ROOT / "docs" / "trials.md").read_text("utf-8")


@pytest.fixture(scope="module", params=["one", "steps"])
def recorded(request: pytest.FixtureRequest) -> tuple[str, Results]:
    return request.param, results_of(read_trial(DATA / f"{request.param}.json"))


ROWS = {
    "one": {"`time` %M, local": ("time", "local"), "`sstat` AveRSS, srun": ("sstat AveRSS", "srun"),
            "`top`, local": ("top", "local")},
    "steps": {"`sacct` MaxRSS": ("sacct MaxRSS", "sbatch"), "`sacct` AveRSS": ("sacct AveRSS", "sbatch"),
              "`time` %M around `srun`": ("time", "sbatch"), "`sacct`, batch step": ("sacct batch", "sbatch")},
}  # fmt: skip


def test_the_numbers_of_the_tables_are_the_recorded_means(recorded: tuple[str, Results]) -> None:
    name, results = recorded
    for label, (column, start) in ROWS[name].items():
        (told,) = re.findall(rf"^\| {re.escape(label)} \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", PAGE, re.MULTILINE)
        cells = [c for c in results.cells if (c.column.name, c.start) == (column, start)]
        assert told == tuple(f"{cell.spread.mean / KIB:,.0f}" for cell in cells if cell.spread is not None)


def test_the_verdict_says_which_to_trust_and_what_is_a_wrapper() -> None:
    one = results_of(read_trial(DATA / "one.json"))
    for start in ("local", "srun", "sbatch"):
        assert one.verdict.of("hwm", start).is_trusted
        assert one.verdict.of("tree", start).is_trusted
    assert not one.verdict.of("sstat AveRSS", "srun").is_trusted
    steps = results_of(read_trial(DATA / "steps.json"))
    assert {("sbatch", "time"), ("sbatch", "sacct batch")} <= set(steps.insensitive)
    assert not steps.verdict.of("sacct batch", "sbatch").is_trusted
    assert "insensitive to the workload, while other methods saw it change" in steps.sentences()[-1]


def test_the_program_that_was_measured_is_the_one_that_is_kept() -> None:
    for name, peak_s in (("one", "0.15"), ("steps", "3")):
        commands = [variant.command for variant in read_trial(DATA / f"{name}.json").plan.variants]
        assert [command[-3:] for command in commands] == [("driver.py", sensors, peak_s) for sensors in "124"]


def test_the_figure_is_drawn_from_the_recorded_trials(tmp_path: Path) -> None:
    script = str(ROOT / "plots" / "technote_figure.py")
    subprocess.run([sys.executable, script, str(tmp_path / "figure.png")], check=True, capture_output=True)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
