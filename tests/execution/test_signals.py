"""Signals while a run ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from runmem.execution.signals import delayed_signals


def test_a_signal_comes_when_the_end_is_over() -> None:
    done = []

    def end() -> None:
        with delayed_signals(final=False):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            end()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["all"]


def test_what_was_ignored_stays_so(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with delayed_signals(final=False):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert capfd.readouterr().err == ""


def test_in_another_thread_nothing_changes() -> None:
    seen = []

    def end() -> None:
        with delayed_signals(final=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


PROGRAM = """
import os, signal, sys
from runmem.execution import signals as ending
ending.GIVE_UP_S = float(sys.argv[1])
with ending.delayed_signals(final=True, note="the run is ending"):
    os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
ending.ignore_signals()
os.kill(os.getpid(), signal.SIGINT)
sys.exit(7)
"""


@pytest.mark.parametrize(("give_up_s", "exit_code"), [("60", 7), ("-1", 128 + signal.SIGTERM)])
def test_a_process_that_ends_is_deaf_for_a_while(give_up_s: str, exit_code: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, give_up_s], capture_output=True, text=True)
    assert done.returncode == exit_code
    assert done.stderr.count("the run is ending") == (exit_code == 7)  # said once
