"""The examples of docs/task_runner.md, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "task_runner.md").read_text()
BLOCKS = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    for kind, text in BLOCKS:
        if kind == "python":
            (tmp_path / text.splitlines()[0].removeprefix("# ")).write_text(text)
    (tmp_path / "data").mkdir()
    return tmp_path


def run(folder, *command):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120, check=True
    )


def test_the_first_example_stores_and_records_what_the_page_says(folder):
    (commands,) = [text for kind, text in BLOCKS if kind == "sh"]
    done = run(folder, "bash", "-ec", commands)
    assert "CountTask.runDataRef" in done.stdout
    assert (folder / "data" / "packages.json").is_file()
    assert "config.factor=3.0" in (folder / "data" / "count_config.txt").read_text()
    assert len(list((folder / "data" / "count_metadata").iterdir())) == 4
    lines = (folder / "runmem_runs" / "count_01" / "tasks.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["data_id"] for line in lines) == [f"{{visit: {n}}}" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(("name", "expected"), [("extra.py", "[11, 14, 19]"), ("pairs.py", "[3, 5]")])
def test_overriding_the_runner_works_in_one_process_and_on_the_cluster(folder, name, expected):
    for processes in ("1", "2"):
        done = run(folder, sys.executable, name, "data", "--id", "visit=1^4^9", "-j", processes)
        assert done.stdout.strip() == expected


def test_inside_another_run_the_targets_belong_to_that_one(folder):
    run(folder, "runmem", "--python_memory_profile", "count.py", "data", "--id", "visit=1..2", "-j", "2")
    (records,) = folder.glob("runmem_runs/*/tasks.jsonl")
    assert sorted(json.loads(line)["data_id"] for line in records.read_text().splitlines()) == [
        "{visit: 1}",
        "{visit: 2}",
    ]


def test_a_configuration_file_and_what_is_shown_are_as_the_page_says(folder):
    (folder / "more.py").write_text("config.factor = 5\n")
    done = run(
        folder, sys.executable, "count.py", "data", "--id", "visit=1", "-C", "more.py", "--show", "config=factor"
    )
    assert done.stdout == "# what a visit is multiplied by\nconfig.factor=5.0\n"
