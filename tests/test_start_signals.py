"""A signal during the start of runmem ends it at once, with a message and the exit code of a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
BEGIN = "import os, signal; from runmem.start_signals import exit_on_signals, restore_python_signals; "
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def ran(code: str, *arguments: str, path: str = "") -> tuple[int, str]:
    """Run code in a process without ignored signals; return its exit code and output."""
    command = [sys.executable, *(arguments or ("-c", BEGIN + code))]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}  # `nohup` has one ignored
    try:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(SOURCE)]))}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_the_process_with_its_code(number: signal.Signals) -> None:
    told = f"runmem: ended by {number.name} before the program began\n"
    assert ran(f"exit_on_signals(); os.kill(os.getpid(), {number:d})") == (128 + number, told)


def test_a_signal_that_is_ignored_stays_so() -> None:
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN); exit_on_signals(); signal.raise_signal(signal.SIGHUP)"
    assert ran(ignored) == (0, "")


def test_it_is_taken_back_for_a_command() -> None:
    found = "[signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]"
    expected = "[signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]"
    assert ran(f"exit_on_signals(); restore_python_signals(); assert {found} == {expected}") == (0, "")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_during_the_imports_of_runmem_is_no_traceback(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "click.py").write_text(f"import os; os.kill(os.getpid(), {number:d})\n")
    told = f"runmem: ended by {number.name} before the program began\n"
    assert ran("", "-m", "runmem", "app.py", path=str(tmp_path)) == (128 + number, told)
