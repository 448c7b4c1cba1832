"""Freed memory that the allocator kept does not hide the next task's increment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

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


KEEPS = """
#include <malloc.h>
#include <stddef.h>
extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
static void *kept[64];
void *malloc(size_t size) {
    if (size >= 1 << 20)
        for (int i = 0; i < 64; i++)
            if (kept[i] && malloc_usable_size(kept[i]) >= size) { void *found = kept[i]; kept[i] = NULL; return found; }
    return __libc_malloc(size);
}
void free(void *block) {
    if (block && malloc_usable_size(block) >= 1 << 20)
        for (int i = 0; i < 64; i++) if (!kept[i]) { kept[i] = block; return; }
    __libc_free(block);
}
"""
HIDDEN = """
from runmem.worker.probe import PeakProbe
probe = PeakProbe()
for mib in 20, 20, 40:
    started = probe.start()
    block = bytearray(mib * 2**20)
    del block
    fields = probe.stop(started)
    print(round(fields["increment_bytes"] / 2**20), fields["increment_unclear"])
"""


OF_ARROW = """
import pyarrow
from runmem.worker.probe import PeakProbe
probe = PeakProbe()
for _ in range(3):
    started = probe.start()
    block = pyarrow.array(["x" * 1000] * 20_000)
    del block
    print(probe.stop(started)["increment_bytes"] > 15 * 2**20)
"""


def test_what_pyarrow_keeps_does_not_hide_an_increment() -> None:
    pytest.importorskip("pyarrow")
    done = subprocess.run([sys.executable, "-c", OF_ARROW], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["True"] * 3, "")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_where_another_allocator_keeps_memory_an_increment_that_it_may_hide_is_unclear(tmp_path: Path) -> None:
    (tmp_path / "keeps.c").write_text(KEEPS)
    library = tmp_path / "keeps.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "keeps.c"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN], env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    first, second, third = done.stdout.splitlines()
    assert first == "20 None"
    unclear = "free memory of earlier tasks could not be returned by the allocator before it"
    assert second == f"0 {unclear}"
    assert third == f"40 {unclear}"


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
