"""The peak is exact for known allocations, however short; overlaps and estimates are labelled."""

import asyncio
import mmap
import os
import subprocess
import sys
import threading

import pytest

from runmem.memory.peak import PeakMeter, process_meter
from runmem.memory.process import PsutilReadings, own_process
from runmem.units import MIB

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS keeps no high-water mark to reset")


def touch(size_bytes: int) -> None:
    """Take, touch and give back exactly `size_bytes`."""
    with mmap.mmap(-1, size_bytes) as block:
        for at in range(0, size_bytes, mmap.PAGESIZE):
            block[at] = 1


def run_python(code: str, *before: str) -> str:
    done = subprocess.run([*before, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux
@pytest.mark.parametrize("size_mib", [1, 10, 100, 500])
def test_the_peak_of_a_known_allocation_is_exact_though_it_was_given_back(size_mib):
    window = process_meter().start()
    touch(size_mib * MIB)
    reading = process_meter().stop(window)
    assert reading.method == "hwm"
    assert reading.reason is None
    assert abs(reading.peak_bytes - reading.base_bytes - size_mib * MIB) < 0.5 * MIB
    assert reading.end_bytes < reading.base_bytes + MIB


@linux
def test_an_earlier_peak_of_the_process_is_not_in_a_later_window_but_in_its_lifetime():
    meter = process_meter()
    first = meter.start()
    touch(80 * MIB)
    high = meter.stop(first)
    reading = meter.stop(meter.start())
    assert reading.peak_bytes < reading.base_bytes + MIB
    assert reading.lifetime_peak_bytes >= high.peak_bytes


@linux
def test_what_was_taken_between_windows_is_in_the_lifetime_peak_only():
    meter = process_meter()
    before = meter.stop(meter.start())
    size = before.lifetime_peak_bytes - before.end_bytes + 30 * MIB
    touch(size)
    reading = meter.stop(meter.start())
    assert reading.peak_bytes < reading.base_bytes + MIB
    assert reading.lifetime_peak_bytes > before.lifetime_peak_bytes + 25 * MIB


@linux
def test_a_nested_window_of_the_same_thread_leaves_the_outer_one_its_peak_and_shares_nothing():
    meter = process_meter()
    outer = meter.start()
    touch(60 * MIB)
    inner = meter.stop(meter.start())
    whole = meter.stop(outer)
    assert inner.peak_bytes < inner.base_bytes + MIB
    assert whole.peak_bytes > whole.base_bytes + 59 * MIB
    assert not inner.shared
    assert not whole.shared


def test_windows_of_two_threads_that_overlap_are_shared_and_a_later_one_is_not():
    meter = process_meter()
    opened, close = threading.Event(), threading.Event()
    readings = []

    def other():
        window = meter.start()
        opened.set()
        close.wait(30)
        readings.append(meter.stop(window))

    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(30)
    window = meter.start()
    touch(40 * MIB)
    mine = meter.stop(window)
    close.set()
    thread.join(30)
    assert mine.shared
    assert readings[0].shared
    assert readings[0].peak_bytes > readings[0].base_bytes + 39 * MIB
    assert not meter.stop(meter.start()).shared


def test_windows_that_take_turns_in_one_thread_are_shared():
    meter = process_meter()
    first = meter.start()
    second = meter.start()
    assert meter.stop(first).shared
    assert meter.stop(second).shared


def test_windows_of_two_asyncio_tasks_are_shared():
    meter = process_meter()

    async def inner(entered, leave):
        window = meter.start(within=asyncio.current_task())
        entered.set()
        await leave.wait()
        return meter.stop(window)

    async def both():
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.ensure_future(inner(entered, leave))
        await entered.wait()
        mine = meter.stop(meter.start(within=asyncio.current_task()))
        leave.set()
        return mine, await task

    assert [reading.shared for reading in asyncio.run(both())] == [True, True]


def test_many_threads_at_once_all_get_a_reading_not_below_their_base():
    meter = process_meter()
    readings = []

    def work():
        for _ in range(100):
            window = meter.start()
            bytearray(b"x") * 300_000
            readings.append(meter.stop(window))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(readings) == 800
    assert all(r.peak_bytes >= max(r.base_bytes, r.end_bytes) for r in readings)


def test_stopping_twice_gives_a_reading_again():
    window = process_meter().start()
    process_meter().stop(window)
    assert process_meter().stop(window).base_bytes == window.base_bytes


@linux
def test_trimming_gives_the_allocators_free_memory_back_before_the_base_is_read():
    out = run_python(
        "from runmem.memory.peak import process_meter\n"
        "meter = process_meter()\n"
        "blocks = [bytes(1000) for _ in range(60_000)]; keep = [bytes(1000) for _ in range(100)]; del blocks\n"
        "kept = meter.stop(meter.start()).base_bytes\n"
        "print(kept - meter.stop(meter.start(trim=True)).base_bytes)"
    )
    assert int(out) > 40 * MIB


class Signalling(PsutilReadings):
    """Readings without a mark that signal when a large one was taken."""

    large = threading.Event()

    def resident_bytes(self):
        value = super().resident_bytes()
        if value > self.limit_bytes:
            self.large.set()
        return value


def test_without_a_mark_the_background_readings_see_the_peak_and_the_value_is_labelled():
    readings = Signalling()
    readings.limit_bytes = sys.maxsize
    meter = PeakMeter(readings)
    window = meter.start()
    readings.limit_bytes = window.base_bytes + 49 * MIB
    with mmap.mmap(-1, 50 * MIB) as block:  # not from the heap, which may keep what is freed
        for _ in range(50):
            block.write(b"x" * MIB)
        assert readings.large.wait(30)
    reading = meter.stop(window)
    assert reading.method == "sampled"
    assert "no high-water mark" in reading.reason
    assert reading.peak_bytes > reading.base_bytes + 49 * MIB
    assert reading.end_bytes < reading.base_bytes + 5 * MIB
    assert reading.lifetime_peak_bytes is None


READ_ONLY = """
import mmap
from runmem.memory.peak import process_meter
meter = process_meter()
window = meter.start()
block = bytearray(b'x') * (90 << 20); del block
high = meter.stop(window)
again = meter.stop(meter.start())
print(high.method, high.peak_bytes - high.base_bytes > 89 << 20, again.method)
print(again.reason)
"""


@linux
def test_on_a_read_only_proc_only_a_risen_mark_counts_as_exact():
    if os.getuid() != 0:
        pytest.skip("only root can mount /proc read-only")
    mount = 'mount -t proc -o ro proc /proc && exec "$0" "$@"'
    can = subprocess.run(["unshare", "-mpf", "sh", "-c", mount, "true"], capture_output=True)
    if can.returncode:
        pytest.skip(f"no private mount of /proc here: {can.stderr!r}")
    values, reason = run_python(READ_ONLY, "unshare", "-mpf", "sh", "-c", mount).strip().split("\n")
    assert values.split() == ["hwm", "True", "sampled"]
    assert "Read-only file system" in reason


class Unreadable:
    def resident_bytes(self):
        raise OSError("gone")

    def high_water_and_resident(self):
        raise OSError("gone")

    def page_faults(self):
        raise OSError("gone")

    def reset_high_water_mark(self):
        raise OSError("gone")

    def reopen(self):
        pass


def test_what_cannot_be_read_is_none_with_a_reason_and_raises_nothing():
    meter = PeakMeter(Unreadable())
    window = meter.start()
    reading = meter.stop(window)
    assert (reading.base_bytes, reading.peak_bytes, reading.end_bytes, reading.method) == (None, None, None, None)
    assert "gone" in reading.reason


class SilentlyIgnoring:
    """A sandbox that takes the reset and keeps its mark."""

    def resident_bytes(self):
        return 10 * MIB

    def high_water_and_resident(self):
        return 500 * MIB, 10 * MIB

    def page_faults(self):
        return None

    def reset_high_water_mark(self):
        pass

    def reopen(self):
        pass


def test_a_reset_without_effect_is_noticed():
    meter = PeakMeter(SilentlyIgnoring())
    reading = meter.stop(meter.start())
    assert reading.method == "sampled"
    assert reading.peak_bytes == 10 * MIB
    assert "no effect" in reading.reason


@linux
def test_a_forked_child_measures_itself_also_while_another_thread_of_the_parent_measures():
    out = run_python(
        "import os, threading\n"
        "from runmem.memory.peak import process_meter\n"
        "meter = process_meter(); opened, close = threading.Event(), threading.Event()\n"
        "def other():\n"
        "    window = meter.start(); opened.set(); close.wait(); meter.stop(window)\n"
        "thread = threading.Thread(target=other); thread.start(); opened.wait()\n"
        "mine = meter.start()\n"
        "if (pid := os.fork()) == 0:\n"
        "    window = meter.start(); block = bytearray(b'x') * (50 << 20); del block\n"
        "    child = meter.stop(window); outer = meter.stop(mine)\n"
        "    print(child.shared, child.method, (child.peak_bytes - child.base_bytes) >> 20,\n"
        "          (outer.peak_bytes - outer.base_bytes) >> 20, flush=True); os._exit(0)\n"
        "os.waitpid(pid, 0); close.set(); thread.join()\n"
        "reading = meter.stop(mine); print((reading.peak_bytes - reading.base_bytes) >> 20)\n"
    )
    child, parent = out.strip().split("\n")
    shared, method, inner, outer = child.split()
    assert (shared, method) == ("False", "hwm")
    assert 49 <= int(inner) <= 51
    assert 40 <= int(outer) <= 52  # a child begins without the pages of files that its parent had mapped
    assert int(parent) <= 1


def test_the_process_has_one_meter():
    assert process_meter() is process_meter()
    assert own_process() is own_process()


@linux
def test_a_window_without_a_page_fault_does_not_inherit_the_peak_of_the_one_before():
    out = run_python(
        "import mmap\n"
        "from runmem.memory.peak import process_meter\n"
        "meter = process_meter()\n"
        "for size in (1, 50, 1, 200, 3) * 3:\n"
        "    window = meter.start()\n"
        "    block = mmap.mmap(-1, size << 20)\n"
        "    for at in range(0, size << 20, 4096): block[at] = 1\n"
        "    block.close()\n"
        "    high = meter.stop(window)\n"
        "    idle = [meter.stop(meter.start()) for _ in range(3)]\n"
        "    rises = [(r.peak_bytes - r.base_bytes) / 2**20 for r in [high, *idle]]\n"
        "    assert abs(rises[0] - size) < 0.5 and max(rises[1:]) < 0.3, (size, rises)\n"
        "    assert {r.method for r in [high, *idle]} == {'hwm'}\n"
        "    assert high.lifetime_peak_bytes >= high.peak_bytes\n"
        "print('right')"
    )
    assert out.strip() == "right"


@linux
def test_windows_that_follow_each_other_with_one_reading_are_each_exact():
    out = run_python(
        "import mmap\n"
        "from runmem.memory.peak import process_meter\n"
        "meter = process_meter(); window = meter.start(); kept = []; ends = None\n"
        "for size in (0, 40, 0, 3, 0, 0, 120, 1, 0) * 3:\n"
        "    block = mmap.mmap(-1, max(size, 1) << 20)\n"
        "    for at in range(0, size << 20, 4096): block[at] = 1\n"
        "    block.close()\n"
        "    reading, window = meter.next(window)\n"
        "    rise = (reading.peak_bytes - reading.base_bytes) / 2**20\n"
        "    assert abs(rise - size) < 0.5, (size, rise)\n"
        "    assert (reading.method, reading.shared, reading.reason) == ('hwm', False, None)\n"
        "    assert ends in (None, reading.base_bytes); ends = reading.end_bytes\n"
        "assert meter.stop(window).base_bytes == ends\n"
        "print('right')"
    )
    assert out.strip() == "right"


@linux
def test_memory_given_back_without_a_page_fault_is_seen_by_the_window_that_follows():
    out = run_python(
        "import mmap\n"
        "from runmem.memory.peak import process_meter\n"
        "block = mmap.mmap(-1, 50 << 20)\n"
        "for at in range(0, 50 << 20, 4096): block[at] = 1\n"
        "meter = process_meter(); window = meter.start()\n"
        "for _ in range(3): _, window = meter.next(window)\n"
        "block.close(); gave, window = meter.next(window); after = meter.stop(window)\n"
        "print((gave.base_bytes - gave.end_bytes) >> 20, (gave.peak_bytes - gave.base_bytes) >> 20,\n"
        "      (gave.base_bytes - after.peak_bytes) >> 20)"
    )
    given, rise, below = map(int, out.split())
    assert given >= 49
    assert rise == 0
    assert below >= 49


def test_a_window_that_follows_is_shared_with_those_that_are_open():
    meter = process_meter()
    opened, close = threading.Event(), threading.Event()

    def other():
        window = meter.start()
        opened.set()
        close.wait(30)
        meter.stop(window)

    window = meter.start()
    alone, window = meter.next(window)
    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(30)
    beside, window = meter.next(window)
    close.set()
    thread.join(30)
    still, window = meter.next(window)
    last = meter.stop(window)
    assert [reading.shared for reading in (alone, beside, still, last)] == [False, True, True, False]


def test_where_marks_cannot_be_reset_windows_that_follow_are_labelled_too():
    meter = PeakMeter(PsutilReadings())
    first, window = meter.next(meter.start())
    second = meter.stop(window)
    assert {first.method, second.method} == {"sampled"}
    assert first.end_bytes is not None


def test_a_window_that_follows_one_that_cannot_be_read_raises_nothing():
    meter = PeakMeter(Unreadable())
    reading, window = meter.next(meter.start())
    assert (reading.end_bytes, reading.method) == (None, None)
    assert "gone" in reading.reason
    assert "gone" in meter.stop(window).reason
