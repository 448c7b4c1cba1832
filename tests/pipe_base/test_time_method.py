from __future__ import annotations

import asyncio
import logging
import mmap
import resource
import sys
import threading
from dataclasses import dataclass
from datetime import datetime

import pytest

import runmem
from runmem.errors import SettingError
from runmem.memory.peak import process_meter
from runmem.memory.process import own_process
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricTask
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.time_method import timeMethod

MIB = 2**20
ITEMS = {
    "Utc", "CpuTime", "UserTime", "SystemTime", "MaxResidentSetSize", "MinorPageFaults", "MajorPageFaults",
    "BlockInputs", "BlockOutputs", "VoluntaryContextSwitches", "InvoluntaryContextSwitches",
}  # fmt: skip


def touch(size_mib: int) -> None:
    """Allocate, touch and free memory without the C allocator, which might keep freed memory of an earlier call."""
    if size_mib:
        with mmap.mmap(-1, size_mib * MIB) as block:
            for at in range(0, size_mib * MIB, mmap.PAGESIZE):
                block[at] = 1


class Work:
    def __init__(self, metadata: object = None) -> None:
        self.metadata = TaskMetadata() if metadata is None else metadata
        self.log = logging.getLogger("work")

    @timeMethod
    def run(self, size_mib: int = 0) -> int:
        touch(size_mib)
        return size_mib

    @timeMethod
    def outer(self, size_mib: int) -> None:
        self.run(size_mib)

    @timeMethod
    def fail(self) -> None:
        raise LookupError("as it should")

    @timeMethod(contaminated=True)
    def contaminated(self) -> None:
        pass

    def grown_mib(self, method: str) -> list[float]:
        start, end = (self.metadata.getArray(f"{method}{when}MaxResidentSetSize") for when in ("Start", "End"))
        return [(after - before) / MIB for before, after in zip(start, end, strict=True)]


def test_all_keys_of_the_original_are_written_and_the_writers_platform():
    work = Work()
    assert work.run(3) == 3
    expected = {f"run{when}{item}" for when in ("Start", "End") for item in ITEMS}
    assert work.metadata.paramNames() == expected | {"__version__", "nodeName", "platform", "runPeakMethod"}
    assert work.metadata["__version__"] == 1
    assert work.metadata["platform"] == sys.platform
    assert {len(work.metadata.getArray(key)) for key in expected} == {1}
    start, end = (datetime.fromisoformat(work.metadata[f"run{when}Utc"]) for when in ("Start", "End"))
    assert start <= end
    assert start.utcoffset() is not None


def test_each_call_has_its_own_peak_after_any_other():
    work = Work()
    for size_mib in (200, 20, 60, 20):
        work.run(size_mib)
    assert work.grown_mib("run") == pytest.approx([200, 20, 60, 20], abs=0.5)
    assert work.metadata.getArray("runPeakMethod") == ["hwm"] * 4


def test_an_outer_call_has_at_least_the_peak_of_its_inner_one():
    work = Work()
    work.run(50)
    work.outer(30)
    outer, inner = (work.metadata.getArray(f"{name}EndMaxResidentSetSize")[-1] for name in ("outer", "run"))
    assert outer >= inner
    assert work.grown_mib("outer") == pytest.approx([30], abs=0.5)


def test_the_peak_of_a_task_around_it_is_not_lost():
    window = process_meter().start()
    touch(80)
    Work().run(1)
    reading = process_meter().stop(window)
    assert reading.peak_bytes - reading.base_bytes == pytest.approx(80 * MIB, abs=MIB / 2)


def test_calls_that_overlap_in_two_threads_are_labelled_shared():
    inside, done = threading.Event(), threading.Event()

    class Slow:
        metadata = TaskMetadata()

        @timeMethod
        def wait(self) -> None:
            inside.set()
            assert done.wait(30)

    thread = threading.Thread(target=Slow().wait)
    thread.start()
    assert inside.wait(30)
    work = Work()
    work.run(10)
    done.set()
    thread.join()
    assert work.metadata["runPeakMethod"] == "hwm, shared"
    assert Slow.metadata["waitPeakMethod"] == "hwm, shared"


def test_a_call_that_raises_has_its_end_too():
    work = Work()
    with pytest.raises(LookupError, match="as it should"):
        work.fail()
    assert work.metadata["failEndMaxResidentSetSize"] > 0
    assert "failEndUtc" in work.metadata


@dataclass(frozen=True)
class BadPixel(Exception):
    x: int


def test_an_exception_that_takes_no_attributes_stays_what_it_is():
    metadata = TaskMetadata()

    @timeMethod(metadata=metadata)
    def yields():
        yield 1
        raise BadPixel(3)

    @timeMethod(metadata=metadata)
    async def waits():
        await asyncio.sleep(0)
        raise BadPixel(3)

    for call in (lambda: list(yields()), lambda: asyncio.run(waits())):
        with pytest.raises(BadPixel):
            call()
    assert {"yieldsEndUtc", "waitsEndUtc"} <= set(metadata.names())


def test_contaminated_is_the_original_value():
    touch(150)
    work = Work()
    work.contaminated()
    unit = 1 if sys.platform == "darwin" else 1024
    assert (
        work.metadata["contaminatedEndMaxResidentSetSize"] == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    )
    assert work.metadata["contaminatedPeakMethod"] == "contaminated"


def test_a_function_writes_into_the_metadata_it_was_given():
    metadata = TaskMetadata()

    @timeMethod(metadata=metadata)
    def add(first: int, second: int = 2) -> int:
        return first + second

    assert add(1, second=5) == 6
    assert "addEndMaxResidentSetSize" in metadata


def test_a_plain_dictionary_gets_lists():
    work = Work({})
    work.run()
    work.run()
    assert len(work.metadata["runEndCpuTime"]) == 2


@pytest.mark.parametrize("metadata", [None, 5, "text"])
def test_an_object_without_usable_metadata_does_its_work(metadata, caplog):
    class Bare:
        @timeMethod
        def run(self) -> int:
            return 7

    bare = Bare()
    if metadata is not None:
        bare.metadata = metadata
    assert bare.run() == 7
    assert bool(caplog.records) == (metadata is not None)


def test_the_caller_is_named_in_the_log(caplog):
    with caplog.at_level(logging.DEBUG, "timer.work"):
        Work().run()
    assert [record.filename for record in caplog.records] == ["test_time_method.py"] * 2
    assert "runEndMaxResidentSetSize=" in caplog.records[1].getMessage()


def test_a_coroutine_is_measured_to_its_end():
    class Async:
        metadata = TaskMetadata()

        @timeMethod
        async def run(self) -> str:
            await asyncio.sleep(0)
            touch(40)
            return "done"

    assert asyncio.run(Async().run()) == "done"
    grown = Async.metadata["runEndMaxResidentSetSize"] - Async.metadata["runStartMaxResidentSetSize"]
    assert grown == pytest.approx(40 * MIB, abs=MIB)


def test_a_generator_is_measured_to_its_end():
    class Lazy:
        metadata = TaskMetadata()

        @timeMethod
        def run(self):
            yield 1
            touch(40)
            return "done"

    assert list(Lazy().run()) == [1]
    grown = Lazy.metadata["runEndMaxResidentSetSize"] - Lazy.metadata["runStartMaxResidentSetSize"]
    assert grown == pytest.approx(40 * MIB, abs=MIB)


def test_an_asynchronous_generator_is_refused_with_what_to_do():
    async def numbers():
        yield 1

    with pytest.raises(SettingError, match="numbers is an asynchronous generator.*coroutine that reads it"):
        timeMethod(numbers)


def test_the_environment_turns_it_off(monkeypatch):
    monkeypatch.setenv("LSST_UTILS_DISABLE_TIMER", "1")

    def run() -> None: ...

    assert timeMethod(run) is run
    assert timeMethod(contaminated=True)(run) is run


def test_a_peak_that_cannot_be_read_is_left_out_with_the_reason(monkeypatch):
    def unreadable(self):
        raise OSError("no /proc")

    work = Work()
    readings = type(own_process())
    monkeypatch.setattr(readings, "resident_bytes", unreadable)
    monkeypatch.setattr(readings, "high_water_and_resident", unreadable)
    work.run()
    assert "runEndMaxResidentSetSize" not in work.metadata
    assert "no /proc" in work.metadata["runPeakReason"]
    assert "runEndCpuTime" in work.metadata


def test_the_memory_metric_reads_it_and_notes_the_method():
    work = Work()
    for size_mib in (10, 90, 5):
        work.run(size_mib)
    config = MemoryMetricConfig(target="run")
    config.connections.package, config.connections.metric = "demo", "Memory"
    measurement = MemoryMetricTask(config=config).run(work.metadata).measurement
    assert measurement.value == max(work.metadata.getArray("runEndMaxResidentSetSize"))
    assert measurement.notes == {
        "estimator": "runmem timeMethod", "values": "the maximum of 3 values", "method": "hwm", "peak": "own",
    }  # fmt: skip


def test_a_contaminated_value_is_noted():
    work = Work()
    work.contaminated()
    config = MemoryMetricConfig(target="contaminated")
    config.connections.package, config.connections.metric = "demo", "Memory"
    assert MemoryMetricTask(config=config).run(work.metadata).measurement.notes["method"] == "contaminated"


def test_it_is_a_public_name():
    assert runmem.timeMethod is timeMethod
