"""Appending to a trace, also on a disk that is full."""

from __future__ import annotations

from pathlib import Path

from runmem.formats.mprof import read_trace
from runmem.formats.mprof_lines import child_line, mem_line
from runmem.formats.totals import KEPT_BEGINNING
from runmem.node import trace_file
from runmem.node.trace_file import TraceFile
from runmem.units import MIB

HEADER = b"CMDLINE app\n"


def tick(number: int) -> bytes:
    return mem_line(number * MIB, number) + child_line("worker-7", number * MIB, number)


def fill(file: TraceFile, first: int) -> int:
    """Append ticks until some are lost; return the number after the last."""
    number = first
    while file.lost_lines < 20:
        file.append(tick(number), number)
        number += 1
    return number


def test_the_file_is_private_and_is_not_there_before_the_first_tick(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    file = TraceFile(str(path), HEADER)
    assert not path.exists()
    file.append(tick(1), 1.0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == HEADER + tick(1)
    file.close()


def test_the_header_is_written_once_also_by_a_sampler_that_was_started_anew(tmp_path: Path) -> None:
    for number in (1, 2):
        file = TraceFile(str(tmp_path / "a.dat"), HEADER)
        file.append(tick(number), number)
        file.close()
    assert (tmp_path / "a.dat").read_bytes() == HEADER + tick(1) + tick(2)


def test_half_a_line_that_a_killed_sampler_left_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(HEADER + tick(1) + tick(2)[:9])
    file = TraceFile(str(tmp_path / "a.dat"), HEADER)
    file.append(tick(3), 3.0)
    file.close()
    assert (tmp_path / "a.dat").read_bytes() == HEADER + tick(1) + tick(3)


def test_a_full_disk_loses_whole_ticks_and_the_loss_is_stated_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 40_000)
    file = TraceFile(str(small_disk / "a.dat"), HEADER)
    number = fill(file, 1)
    lost = file.lost_lines
    ballast.unlink()
    for more in range(3):
        file.append(tick(number + more), number + more)
    file.close()
    read = read_trace(small_disk / "a.dat")
    assert read.skipped == 0
    assert read.lost_lines == lost
    assert len(read.times_s) + len(read.children["worker-7"][0]) + lost == 2 * (number + 2)
    assert read.times_s[-3:].tolist() == [number, number + 1, number + 2]
    assert (small_disk / "a.dat").read_bytes().count(b"LOST") == 1


def test_a_file_closed_on_a_full_disk_has_whole_lines(small_disk: Path) -> None:
    file = TraceFile(str(small_disk / "a.dat"), HEADER)
    fill(file, 1)
    assert not (small_disk / "a.dat").read_bytes().endswith(b"\n")  # else the case that is meant did not occur
    file.close()
    assert (small_disk / "a.dat").read_bytes().endswith(b"\n")
    assert read_trace(small_disk / "a.dat").skipped == 0


def test_a_file_that_cannot_be_made_loses_ticks_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    file = TraceFile(str(folder / "a.dat"), HEADER)
    file.append(tick(1), 1.0)
    file.append(tick(2), 2.0)
    folder.mkdir()
    file.append(tick(3), 3.0)
    file.close()
    assert (folder / "a.dat").read_bytes() == HEADER + b"LOST 4 3.0000\n" + tick(3)


def test_the_header_is_not_written_again_where_what_follows_it_was_freed(tmp_path: Path) -> None:
    header = b"CMDLINE " + b"x" * 9000 + b"\n"
    path = tmp_path / "a.dat"
    path.write_bytes(header[:KEPT_BEGINNING] + bytes(3 * KEPT_BEGINNING) + b"\n" + tick(1))
    file = TraceFile(str(path), header)
    file.append(tick(2), 2.0)
    file.close()
    assert path.read_bytes().endswith(b"\n" + tick(1) + tick(2))
    assert trace_file._KEPT_BEGINNING == KEPT_BEGINNING  # the sampler cannot import it
