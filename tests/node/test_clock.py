"""The clock of a run advances steadily, even if the system's clock is set."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runmem.node import clock as clock_module
from runmem.node.clock import clock_of, steady_s


def test_the_clock_returns_the_time_of_day(tmp_path: Path) -> None:
    now = clock_of(tmp_path)
    before, told, after = time.time(), now(), time.time()
    assert before - 0.01 <= told <= after + 0.01


@pytest.mark.parametrize("jump_s", [-60.0, -3600.0, 1e6, -1e9])
def test_a_process_started_after_a_jump_of_the_clock_has_the_time_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    first = clock_of(tmp_path)
    began = first()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    later = clock_of(tmp_path)
    assert began <= first() <= later() <= first()
    assert 0 <= later() - began < 60


def test_another_process_has_the_same(tmp_path: Path) -> None:
    now = clock_of(tmp_path)
    source = "import sys; sys.path.insert(0, sys.argv[1]); from clock import clock_of; print(clock_of(sys.argv[2])())"
    folder = str(Path(clock_module.__file__).parent)
    before = now()
    told = subprocess.run(
        [sys.executable, "-S", "-E", "-c", source, folder, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert before <= float(told.stdout) <= now()
    assert [path.name for path in tmp_path.iterdir()] == ["clock"]


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_gives_a_clock_of_ones_own(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clock").write_bytes(content)
    now = clock_of(tmp_path)
    assert abs(now() - time.time()) < 1
    assert clock_of(tmp_path / "missing")() >= now() - 1


def test_it_does_not_go_back() -> None:
    readings = [steady_s() for _ in range(1000)]
    assert readings == sorted(readings)
