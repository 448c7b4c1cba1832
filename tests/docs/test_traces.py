"""A run's files hold what docs/traces.md lists, and no more; an observer hears what docs/reference/events.rst says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from runmem.events import TaskRecord

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "traces.md").read_text("utf-8")
PROGRAM = """
from runmem import task, wait_on

@task(returns=1)
def fill(size):
    return len(bytearray(size))

print(wait_on(fill(10**6)))
"""


def listed(title: str) -> set[str]:
    """Return the fields in the first column of the table of a section."""
    section = PAGE.partition(f"## `{title}`\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a program with the observer and the probe of the page; return the folder and what was printed."""
    folder = tmp_path_factory.mktemp("files")
    events = (ROOT / "docs" / "reference" / "events.rst").read_text("utf-8")
    observer, probe = re.findall(r"\.\. code-block:: python\n\n((?:(?:   .*)?\n)+)", events)
    commands = re.findall(r"``runmem --python_memory_profile (--\w+ [\w:]+) app\.py``", events)
    assert len(commands) == 2
    options = ["--python_memory_profile", *" ".join(commands).split(), "app.py"]
    limit = "2 * 1024**3"
    assert limit in observer
    (folder / "alarm.py").write_text(textwrap.dedent(observer).replace(limit, "1"))
    (folder / "disk.py").write_text(textwrap.dedent(probe))
    (folder / "app.py").write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "runmem", "--workers=1", *options], cwd=folder, env=env, capture_output=True,
        text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "runmem_runs" / "app_01", done.stdout


def test_run_json_holds_what_the_page_lists(run: tuple[Path, str]) -> None:
    assert set(json.loads((run[0] / "run.json").read_text())) == listed("run.json")


def test_a_record_holds_what_the_page_lists(run: tuple[Path, str]) -> None:
    (line,) = (run[0] / "tasks.jsonl").read_text().splitlines()
    assert set(json.loads(line)) <= listed("tasks.jsonl") == {field.name for field in fields(TaskRecord)}


def test_the_observer_hears_of_the_task(run: tuple[Path, str]) -> None:
    assert re.search(r"^app\.fill, call 1: \d{8,} bytes on \S+$", run[1], re.MULTILINE), run[1]


def test_the_probe_of_the_page_measures(run: tuple[Path, str]) -> None:
    (record,) = (json.loads(line) for line in (run[0] / "tasks.jsonl").read_text().splitlines())
    assert record["extra"].keys() == {"read_bytes"}
    assert record["extra"]["read_bytes"] >= 0
