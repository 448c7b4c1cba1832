"""Tasks that are commands, called without a running program: the command runs here and at once."""

from __future__ import annotations

import stat
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Return a function that writes an executable of Python, which is then the first of its name on PATH."""
    place = tmp_path / "programs"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place), prepend=":")

    def write(name: str, source: str) -> Path:
        path = place / name
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write
