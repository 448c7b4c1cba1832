"""The examples of docs/metric_jobs.md run as they are written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "metric_jobs.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found, names = blocks("python"), {}
    assert len(found) == 4
    write_files(tmp_path)
    for block in found:
        exec(compile(block, "metric_jobs.md", "exec"), names)
    assert "passed  demo.CountWordsMemory.less_than" in capsys.readouterr().out


def test_the_commands_run_on_a_real_run_with_the_files_of_the_page(tmp_path):
    program = (ROOT / "examples" / "wordcount.py").read_text("utf-8")
    (tmp_path / "wordcount.py").write_text(program)
    (tmp_path / "page.md").write_text(TEXT)  # two files to count: there is something to merge
    write_files(tmp_path)
    (commands,) = blocks("sh")
    run, *metrics = commands.splitlines()
    invoke(tmp_path, f"{run} . --files_per_task 1", "--workers=1")
    assert len(metrics) == 5
    for node in ("node1", "node2"):  # as PyCOMPSs leaves them, one a node
        (tmp_path / f"{node}.dat").write_bytes(next(tmp_path.glob("runmem_runs/*/traces/[!m]*.dat")).read_bytes())
    every, one, checked, configured, traces = (invoke(tmp_path, command) for command in metrics)
    assert "wordcount.CountWordsMemory" in every
    assert "wordcount.RunMemory" in every
    assert one.startswith("demo.CountWordsMemory: ")
    passed = re.findall(r"^passed +(\S+)", checked, re.MULTILINE)
    assert passed == ["demo.CountWordsMemory.less_than", "demo.MergeCountsMemory.limit", "demo.RunMemory.limit"]
    assert re.findall(r"^demo\.\w+", configured, re.MULTILINE) == ["demo.CountWordsMemory", "demo.MergeMemory"]
    assert "trace.NodeMemory_node1" in traces
    assert "trace.NodeMemory_node2" in traces


def write_files(folder: Path) -> None:
    """Write the YAML files of the page."""
    for block in blocks("yaml"):
        path = folder / re.match(r"# ([\w/]+\.yaml)\n", block)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)


def invoke(folder: Path, command: str, *options: str) -> str:
    """Run a command of the page and return what it says; it has to succeed."""
    name, *arguments = shlex.split(command)
    assert name == "runmem"
    done = subprocess.run(
        [sys.executable, "-m", "runmem", *options, *arguments], cwd=folder, capture_output=True, text=True, timeout=200,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
