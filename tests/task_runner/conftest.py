"""Programs that run a command-line task, as a person would start them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAD = """
import os, signal, sys, time
from runmem.task_runner import CmdLineTask, Config, Field, Struct, TaskRunner
"""


class Program:
    """A program in a folder of its own; `run` starts it and waits for its end."""

    def __init__(self, folder: Path, head: str = HEAD) -> None:
        self.folder = folder
        self._head = head
        (folder / "data").mkdir()

    def write(self, text: str) -> None:
        (self.folder / "app.py").write_text(self._head + textwrap.dedent(text))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "app.py", "data", *arguments]

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, timeout=240, check=False, env=env
        )

    def records(self) -> list[dict]:
        import json

        lines = [path.read_text() for path in sorted(self.folder.glob("runmem_runs/*/tasks.jsonl"))]
        return [json.loads(line) for line in "".join(lines).splitlines()]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture(
    params=[
        pytest.param("", id="pool"),
        pytest.param("TaskRunner.localPool = False\n", id="cluster", marks=pytest.mark.slow),
    ]
)
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Program:
    """A program whose targets run in processes forked from it, and one whose targets run on a cluster."""
    return Program(tmp_path, HEAD + request.param)


@pytest.fixture(autouse=True)
def _environment_restored() -> Iterator[None]:
    """Restore the environment: a runner turns implicit threading off for its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
