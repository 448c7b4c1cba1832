"""What is held for others comes and goes inside a window, and the increment stays the window's own, or is marked."""

from __future__ import annotations

import gc
import mmap
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runmem.memory.allocator import trim_free_memory
from runmem.memory.held import LEAST_BYTES, HeldMemory, Holding
from runmem.memory.peak import PeakMeter, PeakReading, process_meter
from runmem.memory.process import ProcReadings
from runmem.units import MIB, parse_bytes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no high-water mark to reset")


def taken(mib: int) -> mmap.mmap:
    """Take and touch memory that goes back to the kernel when it is closed."""
    block = mmap.mmap(-1, mib * MIB)
    for at in range(0, mib * MIB, mmap.PAGESIZE):
        block[at] = 1
    return block


class Block:
    """What can be referred to weakly."""


class Others:
    """A thread that holds things for others than the window, as Dask's does."""

    def __init__(self, held: HeldMemory) -> None:
        self.held = held
        self._thread = ThreadPoolExecutor(1)
        self.do(process_meter().watch_this_thread)

    def do(self, work: Callable[..., Any], *given: Any) -> Any:
        return self._thread.submit(work, *given).result(60)

    def keep(self, mib: int) -> tuple[mmap.mmap, Holding]:
        """Take something and say so when it is there."""

        def keep() -> tuple[mmap.mmap, Holding]:
            block = taken(mib)
            holding = self.held.add(mib * MIB)
            assert holding is not None
            return block, holding

        return self.do(keep)

    def receive(self, mib: int) -> tuple[mmap.mmap, Holding]:
        """Take something after saying that it comes."""
        coming = self.do(self.held.coming, mib * MIB)
        block = self.do(taken, mib)
        self.do(self.held.came, coming, block)
        holding = self.do(self.held.add_received, mib * MIB, 0)
        assert holding is not None
        return block, holding

    def give_up(self, kept: tuple[mmap.mmap, Holding]) -> None:
        def give_up() -> None:
            with self.held.removing(kept[1]):
                kept[0].close()

        self.do(give_up)

    def close(self) -> None:
        self._thread.shutdown()


@pytest.fixture
def others() -> Iterator[Others]:
    gc.collect()
    gc.disable()  # what earlier tests left is not to go in the middle of a window
    trim_free_memory()
    found = Others(HeldMemory(process_meter()))
    for _ in range(3):
        found.do(bytes, 200_000)  # what the thread needs for itself is there
    yield found
    found.close()
    gc.enable()


def increment(reading: PeakReading) -> float:
    assert reading.increment_bytes is not None
    return reading.increment_bytes / MIB


def assert_clear(reading: PeakReading, mib: float) -> None:
    assert reading.increment_unclear is None
    assert abs(increment(reading) - mib) < 1


def between(reading: PeakReading) -> tuple[float, float]:
    """Return the MiB between which an unclear increment is said to be."""
    assert reading.increment_unclear is not None
    found = re.match(r"between (.* \w*B) and (.* \w*B): ", reading.increment_unclear)
    assert found is not None
    return parse_bytes(found[1]) / MIB, parse_bytes(found[2]) / MIB


def test_what_was_given_up_before_the_windows_own_peak_is_not_missing_in_its_increment(others: Others) -> None:
    kept = others.keep(80)
    window = process_meter().start()
    others.give_up(kept)
    taken(50).close()
    reading = process_meter().stop(window)
    assert reading.peak_bytes is not None
    assert reading.base_bytes is not None
    assert reading.peak_bytes - reading.base_bytes < MIB  # what one would take for the increment
    assert_clear(reading, 50)


def test_what_was_given_up_after_the_windows_own_peak_changes_nothing(others: Others) -> None:
    kept = others.keep(80)
    window = process_meter().start()
    taken(50).close()
    others.give_up(kept)
    taken(20).close()
    assert_clear(process_meter().stop(window), 50)


def test_own_memory_stays_while_others_give_theirs_up(others: Others) -> None:
    kept = [others.keep(mib) for mib in (30, 40, 50)]
    window = process_meter().start()
    mine = taken(10)
    for one in kept:
        others.give_up(one)
    more = taken(15)
    reading = process_meter().stop(window)
    mine.close()
    more.close()
    assert_clear(reading, 25)


def test_memory_that_was_never_touched_is_not_taken_for_what_went(others: Others) -> None:
    untouched = mmap.mmap(-1, 200 * MIB), others.do(others.held.add, 200 * MIB)
    window = process_meter().start()
    others.give_up(untouched)
    taken(30).close()
    assert_clear(process_meter().stop(window), 30)


def test_what_somebody_else_still_has_is_not_taken_for_what_went(others: Others) -> None:
    block, holding = others.keep(60)
    window = process_meter().start()

    def let_go() -> None:
        with others.held.removing(holding):
            pass

    others.do(let_go)
    taken(30).close()
    reading = process_meter().stop(window)
    block.close()
    assert_clear(reading, 30)


def test_what_came_after_the_windows_own_peak_is_not_in_its_increment(others: Others) -> None:
    window = process_meter().start()
    taken(50).close()
    kept = others.receive(40)
    reading = process_meter().stop(window)
    others.give_up(kept)
    assert_clear(reading, 50)


def test_what_came_before_the_windows_own_peak_is_not_in_its_increment(others: Others) -> None:
    window = process_meter().start()
    kept = others.receive(40)
    taken(90).close()
    reading = process_meter().stop(window)
    others.give_up(kept)
    # While something comes, how much of it is there is not known: own memory of up to its size may have been taken.
    assert_clear(reading, 90)


def test_an_increment_that_may_be_what_came_for_others_is_marked(others: Others) -> None:
    window = process_meter().start()
    kept = others.receive(40)
    reading = process_meter().stop(window)
    others.give_up(kept)
    least, most = between(reading)
    assert least < 1
    assert 39 < most < 42
    assert "came meanwhile" in str(reading.increment_unclear)


def test_what_comes_still_when_the_window_closes_is_marked(others: Others) -> None:
    window = process_meter().start()
    coming = others.do(others.held.coming, 40 * MIB)
    part = others.do(taken, 25)
    reading = process_meter().stop(window)
    others.do(others.held.came, coming, None)
    part.close()
    assert between(reading)[0] < 1


def test_what_began_to_come_before_the_window_opened_is_marked(others: Others) -> None:
    coming = others.do(others.held.coming, 40 * MIB)
    first = others.do(taken, 15)
    window = process_meter().start()
    second = others.do(taken, 25)
    others.do(others.held.came, coming, Block())
    mine = taken(10)
    reading = process_meter().stop(window)
    for block in (first, second, mine):
        block.close()
    least, most = between(reading)
    assert least - 1 < 10 < most + 1


def test_what_came_unannounced_is_marked(others: Others) -> None:
    window = process_meter().start()
    kept = others.keep(40)
    reading = process_meter().stop(window)
    others.give_up(kept)
    assert between(reading)[0] < 1


def test_what_was_there_before_the_window_and_is_told_within_it_changes_nothing(others: Others) -> None:
    block = others.do(taken, 40)
    window = process_meter().start()
    holding = others.do(others.held.add, 40 * MIB)
    taken(10).close()
    reading = process_meter().stop(window)
    others.give_up((block, holding))
    assert_clear(reading, 10)


def test_memory_that_another_thread_took_and_told_nobody_of_is_marked(others: Others) -> None:
    window = process_meter().start()
    block = others.do(taken, 40)
    reading = process_meter().stop(window)
    block.close()
    assert between(reading)[0] < 1
    assert "threads of the worker" in str(reading.increment_unclear)


def test_a_result_of_the_windows_own_thread_is_its_own(others: Others) -> None:
    window = process_meter().start()
    block = taken(30)
    holding = others.held.add(30 * MIB)
    with others.held.removing(holding):
        block.close()
    taken(20).close()
    assert_clear(process_meter().stop(window), 30)


def test_when_something_else_is_read_while_a_thing_goes_the_increment_is_marked_and_in_its_bounds(
    others: Others,
) -> None:
    block, holding = others.keep(60)
    meter = process_meter()
    window = meter.start()

    removing = others.held.removing(holding)
    others.do(removing.__enter__)
    assert meter.so_far() is not None
    others.do(block.close)
    others.do(removing.__exit__, None, None, None)
    taken(30).close()
    least, most = between(meter.stop(window))
    assert least - 1 < 30 < most + 1


class Interrupted(ProcReadings):
    """In the middle of a reading a finaliser runs, in the same thread."""

    finaliser: Callable[[], None] | None = None

    def high_water_and_resident(self) -> tuple[int | None, int]:
        found = super().high_water_and_resident()
        finaliser, self.finaliser = self.finaliser, None
        if finaliser is not None:
            finaliser()
        return found


def test_what_a_finaliser_gives_up_while_a_window_opens_is_marked() -> None:
    readings = Interrupted()
    meter = PeakMeter(readings)
    held = HeldMemory(meter)
    block, holding = taken(60), held.add(60 * MIB)

    def finalise() -> None:
        with held.removing(holding):
            block.close()

    readings.finaliser = finalise
    window = meter.start()
    taken(30).close()
    least, most = between(meter.stop(window))
    assert least - 1 < 30 < most + 1


def held_now() -> int:
    """Return what the process holds for others, by a window in which nothing happens."""
    held = process_meter().stop(process_meter().start()).held_bytes
    assert held is not None
    return held


def test_held_bytes_are_those_at_the_peak(others: Others) -> None:
    before = held_now()
    first, second = others.keep(20), others.keep(30)
    window = process_meter().start()
    others.give_up(first)
    taken(60).close()
    others.give_up(second)
    reading = process_meter().stop(window)
    assert reading.held_bytes is not None
    assert reading.held_bytes - before == 30 * MIB


def test_small_things_are_not_told(others: Others) -> None:
    assert others.held.add(LEAST_BYTES - 1) is None
    assert others.held.coming(LEAST_BYTES - 1) is None
    with others.held.removing(None):
        pass
    others.held.came(None, None)


def test_a_thing_is_given_up_once(others: Others) -> None:
    before = held_now()
    holding = others.held.add(MIB)
    for _ in range(2):
        with others.held.removing(holding):
            pass
    assert held_now() == before


def test_the_next_call_waits_for_what_the_last_one_had_as_input_to_be_given_up(others: Others) -> None:
    block, holding = others.keep(10)
    others.held.settle([holding])
    others._thread.submit(time.sleep, 0.005)  # Dask takes its time
    later = others._thread.submit(_give_up, others.held, block, holding)
    others.held.settle([])
    assert later.done()


def _give_up(held: HeldMemory, block: mmap.mmap, holding: Holding) -> None:
    with held.removing(holding):
        block.close()


def test_it_waits_once_for_each_thing_and_not_for_its_own_inputs(
    others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    wait = threading.Condition.wait

    def noted(condition: threading.Condition, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread():
            waits.append(timeout)
        return wait(condition, timeout)

    kept, other = others.keep(10), others.keep(10)
    monkeypatch.setattr(threading.Condition, "wait", noted)
    others.held.settle([kept[1], other[1]])
    others.held.settle([kept[1], other[1]])
    assert waits == []
    others.held.settle([kept[1]])  # `other` is due
    assert len(waits) == 1
    others.held.settle([kept[1]])
    assert len(waits) == 1
    monkeypatch.undo()
    for one in (kept, other):
        others.give_up(one)


def test_it_waits_for_inputs_of_later_calls_that_are_coming(others: Others) -> None:
    coming = others.do(others.held.coming, 10 * MIB)
    arrived: list[bool] = []

    def arrive() -> None:
        arrived.append(True)
        others.do(others.held.came, coming, None)

    later = threading.Timer(0.005, arrive)
    later.start()
    others.held.settle([])
    assert arrived
    later.join()


@pytest.mark.parametrize("seed", range(12))
def test_in_whatever_order_things_come_and_go_the_increment_is_right_or_marked(others: Others, seed: int) -> None:
    rng = random.Random(seed)
    kept = [others.keep(rng.randint(1, 30)) for _ in range(4)]
    mine: list[tuple[int, mmap.mmap]] = []
    own = highest = 0
    window = process_meter().start()
    for _ in range(14):
        what = rng.choice(["take", "take", "free", "keep", "receive", "give up", "give up"])
        mib = rng.randint(1, 30)
        if what == "take":
            mine.append((mib, taken(mib)))
            own += mib
        elif what == "free" and mine:
            size, block = mine.pop(rng.randrange(len(mine)))
            block.close()
            own -= size
        elif what in ("keep", "receive"):
            kept.append((others.keep if what == "keep" else others.receive)(mib))
        elif what == "give up" and kept:
            others.give_up(kept.pop(rng.randrange(len(kept))))
        highest = max(highest, own)
    reading = process_meter().stop(window)
    for _, block in mine:
        block.close()
    for one in kept:
        others.give_up(one)
    if reading.increment_unclear is None:
        assert abs(increment(reading) - highest) < 1.5
    else:
        least, most = between(reading)
        assert least - 1 < highest < most + 1.5
