"""The example of docs/dask_programs.md prints what is on the page, alone and with `--measure-only`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from runmem.events import TaskRecord
from runmem.store.run import read_run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "dask_programs.md").read_text("utf-8")


def output_of(folder: Path, *runner: str) -> subprocess.CompletedProcess[str]:
    """Run the example of the page as ``app.py``."""
    (folder / "app.py").write_text(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0])
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD_ADDRESS": ":0"}
    done = subprocess.run(
        [sys.executable, *runner, "app.py"], cwd=folder, capture_output=True, text=True, timeout=200, env=env
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_script_prints_what_is_on_the_page(tmp_path: Path) -> None:
    done = output_of(tmp_path)
    assert done.stdout == re.findall(r"```\n(.*?)```", TEXT.partition("prints\n")[2], re.DOTALL)[0]
    assert "Peaks are exact" in done.stderr
    assert (tmp_path / "runmem_runs" / "app_01" / "run.json").exists()


def test_the_command_measures_the_same_script(tmp_path: Path) -> None:
    command = re.findall(r"```sh\n(runmem run .*?)\n```", TEXT)[0].split()
    done = output_of(tmp_path, "-m", *command[:-1])
    assert done.stdout.splitlines() == ["()", "exact"]
    runs = sorted((tmp_path / "runmem_runs").iterdir())
    assert [run.name for run in runs] == ["app_01", "app_02"]  # of the block, and of the command
    assert len({len(read_run(run).records) for run in runs}) == 1


def test_the_fields_on_the_page_are_those_of_a_record() -> None:
    section = TEXT.partition("## What a record has\n")[2].partition("\n- ")[0]
    named = set(re.findall(r"`(\w+)`", section)) - {"dask"}
    assert named <= {field.name for field in fields(TaskRecord)}
    assert {"key", "layer", "annotations", "worker", "input_bytes", "output_bytes"} <= named
