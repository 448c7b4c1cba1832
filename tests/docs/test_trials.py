"""The commands of docs/trials.md are understood; its tables and figures are those of the recorded trials."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from runmem.cli.trial import command as trial
from runmem.trials.control import PATTERNS
from runmem.trials.methods import METHODS
from runmem.trials.report.recorded import read_trial
from runmem.trials.report.results import TrialResults, results_of
from runmem.units import KIB

ROOT = Path(__file__).parents[2]
DATA = ROOT / "plots" / "data" / "technote"
PAGE = (ROOT / "docs" / "trials.md").read_text("utf-8")


@pytest.fixture(scope="module", params=["one", "steps"])
def recorded(request: pytest.FixtureRequest) -> tuple[str, TrialResults]:
    return request.param, results_of(read_trial(DATA / f"{request.param}.json"))


ROWS = {
    "one": {"`time` %M, local": ("time", "local"), "`sstat` AveRSS, srun": ("sstat AveRSS", "srun"),
            "`top`, local": ("top", "local")},
    "steps": {"`sacct` MaxRSS": ("sacct MaxRSS", "sbatch"), "`sacct` AveRSS": ("sacct AveRSS", "sbatch"),
              "`time` %M around `srun`": ("time", "sbatch"), "`sacct`, batch step": ("sacct batch", "sbatch")},
}  # fmt: skip


def test_the_numbers_of_the_tables_are_the_recorded_means(recorded: tuple[str, TrialResults]) -> None:
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


def commands() -> list[str]:
    """Return every `runmem trial` command in a block of the page."""
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", PAGE, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("runmem trial")]


@pytest.mark.parametrize("line", commands())
def test_the_options_of_every_command_of_the_page_are_understood(line: str) -> None:
    words = shlex.split(line)[2:]
    given = trial.make_context("trial", list(words)).params
    assert given["words"] == tuple(words[words.index("--") + 1 :])
    swept = {sweep.partition("=")[0] for sweep in given["sweeps"]}
    assert swept == set(re.findall(r"{(\w+)}", " ".join(given["words"])))


def test_the_page_lists_every_method_every_pattern_and_every_option() -> None:
    columns = {column.name for method in METHODS.values() for column in method.columns}
    table = PAGE.partition("## The methods")[2].partition("\n\n## ")[0]
    assert {name for name in columns if name.split()[0] not in table or name.split()[-1] not in table} == set()
    controls = PAGE.partition("## The control")[2].partition("\n## ")[0]
    assert {pattern for pattern in PATTERNS if f"`{pattern}`" not in controls} == set()
    options = {name for parameter in trial.params for name in parameter.opts if name.startswith("--")}
    assert {option for option in options if option not in PAGE} == set()
