"""Processes forked from this one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from runmem.worker.isolation.forked_process import has_exited


@pytest.mark.parametrize("system", ["this one", "one without waitid"])
def test_a_child_has_exited_once_it_is_dead_and_can_be_waited_for_still(
    system: str, monkeypatch: pytest.MonkeyPatch, eventually: Callable
) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent closes its end
        os._exit(3)
    os.close(reader)
    if system != "this one":
        monkeypatch.delattr(os, "waitid", raising=False)
    assert not has_exited(pid)
    os.kill(pid, signal.SIGSTOP)
    assert not has_exited(pid)
    os.kill(pid, signal.SIGCONT)
    os.close(writer)
    eventually(lambda: has_exited(pid))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
