"""The memory of processes and their descendants, from ps."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runmem.formats.mprof import read_trace
from runmem.node.members import Member, join
from runmem.node.ps_processes import PsProcesses
from runmem.node.sampler import Sampler
from runmem.units import MIB

pytestmark = pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")

HOLD = "x = b'x' * (60 << 20); print('ready', flush=True); import time; time.sleep(600)"


def sizes(members: list[Member]) -> list[int | None]:
    processes = PsProcesses()
    processes.watch(members)
    processes.refresh()
    trees = [processes.tree(member.pid) for member in members]
    return [None if tree is None else sum(tree) for tree in trees]


def test_a_process_and_its_children_are_summed_and_one_that_ended_has_no_reading(start: Callable) -> None:
    worker, ended = start(), start()
    (alone,) = sizes([Member(worker.pid, None, "a.dat")])
    worker.do(f"import subprocess; child = subprocess.Popen([{sys.executable!r}, '-c', {HOLD!r}], stdout=-1)")
    worker.do("child.stdout.readline()")
    ended.kill()
    together, none = sizes([Member(worker.pid, None, "a.dat"), Member(ended.pid, None, "a.dat")])
    (left_out,) = sizes([Member(worker.pid, None, "a.dat", descendants=False)])
    assert alone is not None
    assert together is not None
    assert left_out is not None
    assert 60 * MIB < together - alone < 80 * MIB
    assert abs(left_out - alone) < 5 * MIB
    assert none is None


def test_children_are_named_by_their_program(start: Callable) -> None:
    worker = start()
    worker.do("import subprocess; child = subprocess.Popen(['sleep', '600'], stdout=-3)")
    processes = PsProcesses()
    processes.watch([Member(worker.pid, None, "a.dat")])
    processes.refresh()
    ((size, command),) = processes.children().values()
    assert (0 < size < 20 * MIB, command) == (True, b"sleep")
    worker.do("child.kill(); child.wait()")


def test_a_zombie_has_no_reading(start: Callable, eventually: Callable) -> None:
    worker = start()
    worker.kill(reap=False)
    eventually(lambda: sizes([Member(worker.pid, None, "a.dat")]) == [None])


def test_the_values_say_that_they_are_sums() -> None:
    assert "sums of resident set sizes" in PsProcesses.note
    assert PsProcesses.least_interval_s == 1.0


def test_a_trace_made_with_ps_has_a_note(spool: Path, start: Callable) -> None:
    worker = start()
    join(spool, worker.pid, "node7.dat", "worker", "app.py")
    sampler = Sampler(str(spool), 0.1, PsProcesses())
    assert sampler.sample(time.time())
    trace = read_trace(spool / "node7.dat")
    assert trace.notes == [PsProcesses.note]
    assert (trace.cmdline, len(trace.times_s), list(trace.children), trace.skipped) == ("app.py", 1, ["worker"], 0)
