"""Every table of the command line fits the terminal and keeps its content."""

from __future__ import annotations

import io
import re

import pytest
from click.testing import CliRunner
from damage import make_run
from rich.console import Console

from runmem.cli import metric, report
from runmem.reports.record_lines import record_lines
from runmem.reports.summary import RunSummary
from runmem.reports.trace_summary import TraceSummary
from runmem.store.run import read_run
from runmem.trials.report.grid import Grid
from runmem.verify.report import Report
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_set import SpecificationSet

WIDTHS = (60, 80, 100, 200)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def rendered(summary, width: int) -> str:
    out = io.StringIO()
    summary.render(Console(file=out, width=width, force_terminal=True, color_system=None))
    return out.getvalue()


def table_lines(text: str, *titles: str) -> list[str]:
    """Return the lines of the tables whose first title is one of `titles`, until the next empty line."""
    found, inside = [], False
    for line in text.splitlines():
        inside = bool(line.strip()) and (inside or line.split()[:1] != [] and line.split()[0] in titles)
        if inside and not line.startswith("  "):
            found.append(line)
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_the_summary_of_a_run(run, width):
    text = rendered(RunSummary.from_run(read_run(run)), width)
    lines = table_lines(text, "Task", "Node")
    tables = [line for line in lines if not line.startswith(("Peaks", "Increments"))]
    assert max(map(len, tables)) <= width
    for word in (
        "Killed",
        "Max peak",
        "Max incr.",
        "Top worker",
        "Limit",
        "Allowed",
        "100.0 MiB",
        "109.0 MiB",
        "9.8 %",
    ):
        assert word in "\n".join(tables)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_summary_of_a_trace(run, width):
    text = rendered(TraceSummary.from_file(run / "traces" / "n1.dat"), width)
    assert max(map(len, table_lines(text, "Series"))) <= width
    assert re.search(r"^worker-10 +59\.0 MiB$", text, re.M)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_executions(run, width):
    lines = record_lines(read_run(run).records, width=width)
    table = [line for line in lines if not line.startswith("  ~")]
    assert max(map(len, table)) <= width
    for word in ("Try", "Process", "Status", "Base", "Increment", "finished", "killed", "exact", "sampled", "50.0 MiB"):
        assert word in "\n".join(table)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_metrics(run, width, monkeypatch):
    monkeypatch.setattr("runmem.table.terminal_width", lambda: width)
    text = CliRunner().invoke(metric.command, [str(run)]).output
    assert (
        max(len(line) for line in table_lines(text, "Metric") if not line.startswith(("Written", "n1.dat:"))) <= width
    )
    for word in ("Method", "Target", "hwm", "sampled", "node:n1", "whole-run", "app.work", "109.0 MiB"):
        assert word in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_specifications(run, width):
    plain = ThresholdSpecification.parse("demo.CountWordsOfAllFilesMemory<500 MiB", None)
    spec = ThresholdSpecification(str(plain.name), plain.threshold, "<", ["design", "release"])
    reason = "there is no measurement of demo.CountWordsOfAllFilesMemory, since its task has not run on any node"
    lines = Report({}, SpecificationSet([spec]), {}, {"demo.CountWordsOfAllFilesMemory": reason}).lines(width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for word in ("Status", "Test", "Spec. tags", "Reason", "not measured", "< 500 Mi", "design,", "node"):
        assert word in words


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_of_a_trial(width):
    grid = Grid(
        "Peak memory",
        ["Run", "Start", "Method", "Mean", "Std dev", "Min", "Max", "n", "x baseline", "Error on controls", "Note"],
        [
            ["python app.py --visit 1 --ccd 22", "sbatch", "tree", "312.6 MiB", "1.2 MiB", "311.0 MiB", "314.1 MiB",
             "5", "1.01", "-63.81 MiB (spike)", "trusted; sampled: misses what is shorter than a sample"],
            ["", "sbatch", "cgroup", "402.6 MiB", "1.2 MiB", "401.0 MiB", "404.1 MiB", "5", "1.31", "-", "not here"],
        ],
        {"Mean", "Std dev", "Min", "Max", "n", "x baseline", "Error on controls"},
    )  # fmt: skip
    lines = grid.lines(width)
    assert max(len(line) for line, _ in lines) <= width
    text = "\n".join(line for line, _ in lines)
    for word in (*grid.headers, "tree", "cgroup", "-63.81 MiB (spike)", "not here", "trusted;", "402.6 MiB"):
        assert word in text
    assert {style for line, style in lines if "tree" in line} == {"green"}


def test_where_there_is_no_terminal_each_execution_is_one_line(run):
    lines = CliRunner().invoke(report.command, [str(run), "--tasks"]).output.splitlines()
    assert sum("app.work" in line for line in lines) == 5
