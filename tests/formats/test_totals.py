"""Looking up a total in a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from runmem.formats.mprof import read_trace
from runmem.formats.mprof_lines import child_line, cmdline_line, func_line, mem_line
from runmem.formats.totals import KEPT_BEGINNING, first_kept, offset_before, total_at
from runmem.store.freeing import free_beginning
from runmem.units import MIB

EPOCH = 1795180122.0


@pytest.fixture(scope="module")
def content() -> bytes:
    """A trace of 8 MB whose tick number i, at EPOCH + i seconds, has i MiB."""
    lines = [cmdline_line("app")]
    for number in range(5000):
        lines.append(mem_line(number * MIB, EPOCH + number))
        lines += [child_line(f"worker-{i}", MIB, EPOCH + number) for i in range(45)]
        if number % 100 == 0:
            lines.append(func_line("f", 7, EPOCH, 7, EPOCH))
    return b"".join(lines)


@pytest.fixture
def trace(tmp_path: Path, content: bytes) -> Path:
    """A file of that content, of the test's own."""
    path = tmp_path / "node7.dat"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("number", [0, 1, 17, 2500, 4567, 4998, 4999])
def test_the_last_reading_until_a_time_is_found(trace: Path, number: int) -> None:
    assert total_at(trace, EPOCH + number) == number * MIB
    assert total_at(trace, EPOCH + number + 0.9) == number * MIB


def test_every_time_is_found(trace: Path) -> None:
    assert [total_at(trace, EPOCH + n) for n in range(0, 5000, 37)] == [n * MIB for n in range(0, 5000, 37)]


def test_before_the_first_reading_it_is_the_first(trace: Path) -> None:
    assert total_at(trace, 0.0) == 0
    trace.write_bytes(mem_line(5 * MIB, EPOCH) + mem_line(6 * MIB, EPOCH + 1))
    assert total_at(trace, EPOCH - 1) == 5 * MIB


def test_a_torn_last_line_is_not_a_reading(trace: Path) -> None:
    trace.write_bytes(mem_line(5 * MIB, EPOCH) + mem_line(66 * MIB, EPOCH + 1)[:10])
    assert total_at(trace, EPOCH + 9) == 5 * MIB


@pytest.mark.parametrize("other", [b"", b"CMDLINE app\n", b"\0\xff garbage" * 50_000])
def test_without_a_total_it_is_not_known(trace: Path, other: bytes) -> None:
    trace.write_bytes(other)
    assert total_at(trace, EPOCH) is None
    trace.unlink()
    assert total_at(trace, EPOCH) is None


def test_of_a_trace_whose_beginning_was_freed_only_what_it_still_has_is_known(trace: Path) -> None:
    size = trace.stat().st_size
    with trace.open("rb") as file:
        assert first_kept(file.fileno(), KEPT_BEGINNING) == KEPT_BEGINNING
    with trace.open("r+b") as file:
        try:
            free_beginning(trace, size // 2, KEPT_BEGINNING)
        except OSError as error:
            pytest.skip(f"nothing can be freed here: {error}")
        assert size // 2 - 8192 < first_kept(file.fileno(), KEPT_BEGINNING) <= size // 2
    assert total_at(trace, EPOCH + 1) is None
    assert total_at(trace, EPOCH + 2400) is None
    assert [total_at(trace, EPOCH + n) for n in range(2600, 5000, 37)] == [n * MIB for n in range(2600, 5000, 37)]


def test_what_was_read_from_a_time_on_is_found_without_the_rest(trace: Path) -> None:
    for number in (4300, 4777, 4999, 9000):
        read = read_trace(trace, offset_before(trace, EPOCH + number))
        times = {EPOCH + n for n in range(number, 5000)}
        assert times <= set(read.times_s)
        assert times <= set(read.children["worker-44"][0])
        assert read.skipped == 0
        assert len(read.times_s) <= len(times) + 100  # a block is some 40 ticks
    assert offset_before(trace, EPOCH) == 0
    assert offset_before(trace.with_name("none.dat"), EPOCH) == 0
