"""Freed memory that the allocator kept does not hide the next task's increment."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from runmem.memory.leftovers import Leftovers
from runmem.units import MIB

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc gives memory back")

# In a process of its own, since what a thread's allocator does depends on what was allocated before. The first block is
# freed to let glibc keep blocks of that size from then on.
PROGRAM = """
import sys, threading
from runmem.worker.probe import PeakProbe
from runmem.memory.allocator import use_one_arena
use_one_arena()
probe = PeakProbe()
def fill(mib):
    block = bytearray(mib * 2**20)
def work():
    fill(20)
    for mib in 10, 15, 10:
        started = probe.start()
        fill(mib)
        print(round(probe.stop(started)["increment_bytes"] / 2**20))
    started = probe.start()
    for mib in 10, 15, 10:
        fill(mib)
        fields, started = probe.next(started)
        print(round(fields["increment_bytes"] / 2**20))
    probe.stop(started)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_the_same_allocation_is_the_same_increment_each_time_also_in_a_thread() -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split() == ["10", "15", "10"] * 2


def test_the_allocator_is_asked_only_if_more_than_a_little_may_be_left() -> None:
    leftovers = Leftovers()
    assert leftovers.expected(100 * MIB)
    assert leftovers.trim()
    leftovers.note_trimmed(100 * MIB)
    assert not leftovers.expected(100 * MIB + MIB // 2)
    assert leftovers.expected(102 * MIB)  # it was allocated and may have been freed
    leftovers.note_freed()
    assert leftovers.expected(100 * MIB)


def test_where_asking_is_slow_it_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> bool:
        sum(range(1_000_000))
        return True

    monkeypatch.setattr("runmem.memory.leftovers.trim_free_memory", slow)
    leftovers = Leftovers()
    assert leftovers.trim()
    assert not leftovers.trim()
