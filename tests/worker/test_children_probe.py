"""The memory of a task's child processes."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runmem.node.sampled_peaks import PeakWriter, SampledPeak
from runmem.units import MIB
from runmem.worker.children_probe import ENDED_CHILDREN, ChildrenProbe, ChildrenWindow, children_fields

FLOOR = 300 * MIB


@pytest.fixture
def probe(tmp_path: Path) -> ChildrenProbe:
    return ChildrenProbe(tmp_path / "sampled-7.bin")


@pytest.fixture
def sampler(probe: ChildrenProbe, tmp_path: Path) -> PeakWriter:
    return PeakWriter(str(tmp_path / "sampled-7.bin"))


def fields(stopped: dict[str, Any], own: dict[str, object] | None = None, metric: str = "rss") -> dict[str, Any]:
    return children_fields(stopped["children"], {} if own is None else own, FLOOR, metric)


def test_a_task_without_children_has_no_fields(probe: ChildrenProbe) -> None:
    first, window = probe.next(probe.start())
    assert (fields(first), fields(probe.stop(window))) == ({}, {})


def test_each_task_gets_what_was_sampled_in_its_time(probe: ChildrenProbe, sampler: PeakWriter) -> None:
    window = probe.start()
    sampler.add(SampledPeak(50 * MIB, b"sort"))
    sampler.add(SampledPeak(20 * MIB, b"cat"))
    first, window = probe.next(window)
    second, window = probe.next(window)
    sampler.add(SampledPeak(7 * MIB, b"cat"))
    assert fields(first) == {
        "children_peak_bytes": 50 * MIB, "children_method": "sampled", "children_command": "sort",
    }  # fmt: skip
    assert fields(second) == {}
    assert fields(probe.stop(window))["children_peak_bytes"] == 7 * MIB


def test_tasks_that_overlap_share_their_children(probe: ChildrenProbe, sampler: PeakWriter) -> None:
    one = probe.start()
    sampler.add(SampledPeak(5, b"a"))
    other = probe.start()
    sampler.add(SampledPeak(3, b"b"))
    assert fields(probe.stop(one))["children_peak_bytes"] == 5
    sampler.add(SampledPeak(4, b"c"))
    assert fields(probe.stop(other))["children_peak_bytes"] == 4


def test_children_of_the_time_in_which_a_task_waits_are_not_its_own(probe: ChildrenProbe, sampler: PeakWriter) -> None:
    window = probe.start()
    sampler.add(SampledPeak(2, b"a"))
    paused = probe.pause(window)
    inner = probe.start()
    sampler.add(SampledPeak(9, b"b"))
    assert fields(probe.stop(inner))["children_peak_bytes"] == 9
    assert fields(probe.stop(probe.go_on(paused)))["children_peak_bytes"] == 2


def test_a_child_too_short_for_the_sampler_is_missed_and_not_zero(probe: ChildrenProbe) -> None:
    window = probe.start()
    subprocess.run(["true"], check=True)
    found = fields(probe.stop(window))
    assert found["children_method"] == "missed"
    assert "children_peak_bytes" not in found
    assert "ended before they were sampled; none had more than" in found["reason"]


def test_a_short_child_that_is_larger_than_all_before_is_measured_by_the_kernel(probe: ChildrenProbe) -> None:
    mebibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024 + 400
    window = probe.start()
    subprocess.run([sys.executable, "-S", "-c", f"b'x' * ({mebibytes} << 20)"], check=True)
    found = fields(probe.stop(window))
    assert found["children_method"] == "hwm"
    assert mebibytes * MIB <= found["children_peak_bytes"] < (mebibytes + 30) * MIB


def window(sampled: SampledPeak, ended_bytes: int | None = None, has_risen: bool = False) -> dict[str, Any]:
    made = ChildrenWindow()
    made.sampled, made.ended_bytes, made.has_risen = sampled, ended_bytes, has_risen
    return {"children": made}


@pytest.mark.parametrize(
    ("sampled", "ended_bytes", "has_risen", "own", "expected"),
    [
        (400, None, False, {}, (400, "sampled", "sort")),
        (400, 500, True, {}, (500, "hwm", "sort")),
        (600, 500, True, {}, (600, "sampled", "sort")),  # several at a time
        (400, 500, False, {}, (400, "sampled", "sort")),  # the mark is that of an earlier child
        (None, 200, True, {}, (None, "missed", None)),  # below what the kernel counts from the parent
        (None, 500, False, {}, (None, "missed", None)),
        (90, 200, True, {"children_peak_bytes": 100 * MIB, "children_command": "cc"}, (100, "hwm", "cc")),
        (None, 500, True, {"target_pid": 7}, (None, None, None)),  # a child of the worker, not of the fresh process
        (None, None, False, {"target_pid": 7, "lifetime_peak_bytes": 9 * MIB, ENDED_CHILDREN: 50 * MIB},
         (50, "hwm", None)),
        (None, None, False, {"target_pid": 7, "lifetime_peak_bytes": 60 * MIB, ENDED_CHILDREN: 60 * MIB},
         (None, "missed", None)),
    ],
)  # fmt: skip
def test_the_better_of_two_measurements_counts(sampled, ended_bytes, has_risen, own, expected) -> None:
    peak = SampledPeak() if sampled is None else SampledPeak(sampled * MIB, b"sort")
    own = dict(own)
    found = fields(window(peak, ended_bytes and ended_bytes * MIB, has_risen), own)
    size = found.get("children_peak_bytes")
    assert (size and size // MIB, found.get("children_method"), found.get("children_command")) == expected
    assert own.keys() <= {"target_pid", "lifetime_peak_bytes"}


def test_a_child_that_cannot_be_read_makes_the_memory_unknown() -> None:
    found = fields(window(SampledPeak(5, b"a", is_unreadable=True)), metric="pss")
    assert found == {"children_method": "missed", "reason": "the pss of a child process could not be read"}


def test_the_kernels_mark_is_not_compared_with_another_metric() -> None:
    assert fields(window(SampledPeak(400 * MIB, b"a"), 900 * MIB, True), metric="pss")["children_method"] == "sampled"
    assert fields(window(SampledPeak(), 900 * MIB, True), metric="pss")["children_method"] == "hwm"


def test_without_room_for_the_file_the_kernel_still_measures() -> None:
    probe = ChildrenProbe(Path("/proc/none/sampled-7.bin"))
    window = probe.start()
    subprocess.run(["true"], check=True)
    assert fields(probe.stop(window))["children_method"] == "missed"
