from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runmem.trials import control
from runmem.trials.methods import METHODS, Reading
from runmem.trials.outcome import CommandOutcome, Site
from runmem.trials.starts.local import Local
from runmem.trials.truth import Truth

Measured = tuple[CommandOutcome, dict[str, Reading]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@pytest.fixture
def measure(site: Site) -> Callable[..., Measured]:
    """Run a command under methods, and return its outcome and their readings."""

    def run(command: Sequence[str], *names: str) -> Measured:
        methods = [METHODS[name]() for name in names]
        for method in methods:
            if (reason := method.available()) is not None:
                pytest.skip(f"{method.name}: {reason}")
            method.prepare(site)
        outcome = Local().run(command, methods, site)
        return outcome, {reading.column: reading for method in methods for reading in method.collect(outcome)}

    return run


@pytest.fixture
def measure_control(
    measure: Callable[..., Measured], tmp_path: Path
) -> Callable[..., tuple[Truth, dict[str, Reading]]]:
    """Run a control under methods, and return its truth and their readings."""

    def run(pattern: str, *names: str, options: Sequence[str] = ()) -> tuple[Truth, dict[str, Reading]]:
        truth = tmp_path / "truth"
        command = [sys.executable, "-I", "-S", str(control.__file__), pattern, "--truth", str(truth)]
        outcome, readings = measure([*command, "--folder", str(tmp_path), *options], *names)
        assert outcome.exit_code == 0
        return Truth.from_json(json.loads(truth.read_text())), readings

    return run
