"""The examples of docs/tasks.md print the output on the page, with and without runmem."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tasks.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
OUTPUTS = re.findall(r"```\n(.*?)```", re.sub(r"```python\n.*?```", "", TEXT, flags=re.DOTALL), re.DOTALL)


def output_of(folder: Path, number: int, *runner: str) -> subprocess.CompletedProcess[str]:
    """Run an example of the page as ``app.py``."""
    (folder / "app.py").write_text(EXAMPLES[number])
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, *runner, "app.py"], cwd=folder, capture_output=True, text=True, timeout=200, env=env
    )
    assert done.returncode == 0, done.stderr
    return done


RUNMEM = ("-m", "runmem", "--workers=1", "--no_summary")


def test_async_tasks_run_both_ways(tmp_path: Path) -> None:
    for runner in ((), RUNMEM):
        assert output_of(tmp_path, 0, *runner).stdout.splitlines() == ["[2, 4, 6]", "[8, 10]"]


def test_the_warnings_are_those_of_the_page(tmp_path: Path) -> None:
    done = output_of(tmp_path, 1, *RUNMEM)
    *told, printed = OUTPUTS[0].splitlines()
    assert done.stdout.strip() == printed
    first = " ".join(told[:2]).replace("app.py", str(tmp_path / "app.py"), 1)
    assert first in done.stderr
    assert f"{tmp_path / 'app.py'}:10: TaskWarning: task add changes in place the global 'seen'" in done.stderr


def test_the_time_limit_is_told_as_the_page_says(tmp_path: Path) -> None:
    printed = output_of(tmp_path, 3, *RUNMEM).stdout
    printed = re.sub(r"node \S+, process \d+,", "node laptop, process 4711,", printed)
    assert printed.replace(f"{tmp_path}{os.sep}", "") == OUTPUTS[1]


def test_a_task_calls_tasks_both_ways(tmp_path: Path) -> None:
    for runner in ((), (*RUNMEM, "--nested")):
        assert output_of(tmp_path, 5, *runner).stdout == OUTPUTS[3]


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_the_stencil_runs_both_ways(tmp_path: Path) -> None:
    for runner in ((), RUNMEM):
        assert output_of(tmp_path, 4, *runner).stdout == OUTPUTS[2]
