"""The graph of a run: a node for each call, an edge for each datum and file, an SVG by graphviz."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from runmem.collection.task_graph import GraphWriter
from runmem.events import RunEnded, TaskMeasured, TaskRecord, TaskSubmitted
from runmem.units import MIB

CALLS = [
    TaskSubmitted(1, "make"),
    TaskSubmitted(2, 'odd "name" \\'),
    TaskSubmitted(3, "use", inputs=((1, 0), (1, 1), (2, 0)), after=(2,), files=("/a/x.txt", "/a/y.txt")),
    TaskSubmitted(4, "use", inputs=((3, 0), (99, 0)), after=(3,), files=("x.txt",)),
]


def written(folder: Path, calls: list[TaskSubmitted], peaks: dict[int, list[int]] | None = None) -> str:
    writer = GraphWriter(folder / "complete_graph.dot")
    for call in calls:
        writer.task_submitted(call)
    for task_id, values in (peaks or {}).items():
        for attempt, peak in enumerate(values, 1):
            record = TaskRecord(task_id, "app", "f", "app.py", "node", 1, 1, 0.0, attempt, peak_bytes=peak)
            writer.task_measured(TaskMeasured(record))
    writer.run_ended(RunEnded(0))
    return (folder / "complete_graph.dot").read_text()


def test_nodes_edges_and_names(tmp_path: Path) -> None:
    text = written(tmp_path, CALLS, {1: [5 * MIB, 7 * MIB, 6 * MIB], 3: [2 * MIB]})
    assert re.findall(r"^  (\d+) \[label=(\"(?:[^\"\\]|\\.)*\")", text, re.M) == [
        ("1", '"make 1\\n7.0 MiB"'),
        ("2", r'"odd \"name\" \\ 2"'),
        ("3", '"use 3\\n2.0 MiB"'),
        ("4", '"use 4"'),
    ]
    assert re.findall(r'^  (\d+) -> (\d+) \[label="([^"]*)"( style=dashed)?', text, re.M) == [
        ("1", "3", "d1.0", ""), ("1", "3", "d1.1", ""), ("2", "3", "d2.0", ""), ("2", "3", "", " style=dashed"),
        ("3", "4", "d3.0", ""), ("3", "4", "x.txt", " style=dashed"),
    ]  # fmt: skip
    assert '"use (2)"' in text
    colours = dict(re.findall(r'^  (\d+) \[.* fillcolor="(#\w+)"', text, re.M))
    assert colours["3"] == colours["4"] != colours["1"]


def test_a_run_without_calls_has_an_empty_graph(tmp_path: Path) -> None:
    text = written(tmp_path, [])
    assert text.startswith("digraph {")
    assert "->" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["complete_graph.dot"]


def test_a_folder_that_has_gone_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = GraphWriter(tmp_path / "gone" / "complete_graph.dot")
    writer.task_submitted(CALLS[0])
    writer.run_ended(RunEnded(0))
    assert "the graph could not be written to" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_draws_it(tmp_path: Path) -> None:
    written(tmp_path, CALLS, {1: [7 * MIB]})
    drawing = (tmp_path / "complete_graph.svg").read_text()
    assert "7.0 MiB" in drawing
    assert "x.txt" in drawing


def test_a_drawing_that_fails_leaves_the_file_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    written(tmp_path, CALLS)
    assert "the graph could not be drawn" in capsys.readouterr().err
