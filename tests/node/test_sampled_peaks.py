"""What the sampler reports to a process that runs tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runmem.node.sampled_peaks import PeakReader, PeakWriter, SampledPeak, file_of
from runmem.store.layout import Spool


@pytest.fixture
def path(tmp_path: Path) -> str:
    return file_of(tmp_path, 7)


def found(reader: PeakReader) -> tuple[int | None, bytes] | None:
    peak = reader.cut()
    return None if peak is None else (peak.children_bytes, peak.command)


def test_each_window_gets_the_peak_of_its_own_readings(path: str) -> None:
    reader = PeakReader(path)
    writer = PeakWriter(path)
    assert found(reader) is None
    for size, command in [(3, b"a"), (5, b"b"), (4, b"c")]:
        writer.add(SampledPeak(size, command))
    assert found(reader) == (5, b"b")
    assert found(reader) is None
    writer.add(SampledPeak(2, b"d"))
    assert found(reader) == (2, b"d")


def test_a_reading_that_began_before_the_window_does_not_count(path: str) -> None:
    reader = PeakReader(path)
    writer = PeakWriter(path)
    writer.add(SampledPeak(9, b"a"))
    before = Path(path).read_bytes()
    assert found(reader) == (9, b"a")
    later = bytearray(before)
    later[8] += 1  # another reading of the window before
    later[8 + (len(before) - 8) // 2] += 1
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), later[8:], 8)
    assert found(reader) is None


def test_a_reading_that_is_half_written_is_read_later(path: str) -> None:
    reader = PeakReader(path)
    writer = PeakWriter(path)
    writer.add(SampledPeak(9, b"a"))
    whole = Path(path).read_bytes()
    half = len(whole) - (len(whole) - 8) // 2
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), bytes(len(whole) - half), half)
        assert found(reader) is None
        os.pwrite(file.fileno(), whole[half:], half)
    assert found(reader) == (9, b"a")


def test_what_is_unknown_is_not_zero(path: str) -> None:
    reader = PeakReader(path)
    writer = PeakWriter(path)
    writer.add(SampledPeak(None, b"", True))
    peak = reader.cut()
    assert peak is not None
    assert (peak.children_bytes, peak.gpu_bytes, peak.is_unreadable) == (None, None, True)
    writer.add(SampledPeak(gpu_bytes=0))
    peak = reader.cut()
    assert peak is not None
    assert (peak.children_bytes, peak.gpu_bytes, peak.is_unreadable) == (None, 0, False)


def test_a_process_that_runs_no_tasks_has_no_file(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        PeakWriter(path)


def test_the_layout_of_a_spool_has_the_same_path(tmp_path: Path) -> None:
    assert str(Spool(tmp_path).sampled(7)) == file_of(tmp_path, 7)
