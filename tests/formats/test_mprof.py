"""The `.dat` format, both ways."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runmem.formats.mprof import Bracket, ChildrenReading, read_trace
from runmem.formats.mprof_lines import child_line, cmdline_line, func_line, mem_line
from runmem.units import MIB

EPOCH = 1795180122.25


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "node7.dat"


def test_what_is_written_is_read(trace: Path) -> None:
    trace.write_bytes(
        cmdline_line("python app.py --n 3")
        + mem_line(300 * MIB + 4096, EPOCH)
        + child_line("worker-7", 100 * MIB, EPOCH)
        + child_line("worker-8", 200 * MIB + 4096, EPOCH)
        + mem_line(250 * MIB, EPOCH + 0.1)
        + child_line("worker-7", 250 * MIB, EPOCH + 0.1)
        + b"CHILDREN worker-7 sort 12.500000 %.4f\n" % EPOCH
        + b"GPU gpu0 2048.000000 %.4f\nGPU worker-7 0.500000 %.4f\n" % (EPOCH, EPOCH)
        + func_line("app.fill", 100 * MIB, EPOCH, 150 * MIB, EPOCH + 2, level=1)
    )
    read = read_trace(trace)
    assert read.cmdline == "python app.py --n 3"
    assert read.times_s.tolist() == [EPOCH, EPOCH + 0.1]
    assert abs(read.totals_bytes - np.array([300 * MIB + 4096, 250 * MIB])).max() <= 1  # six decimals of a MiB
    assert sorted(read.children) == ["worker-7", "worker-8"]
    times, sizes = read.children["worker-7"]
    assert times.tolist() == [EPOCH, EPOCH + 0.1]
    assert sizes.tolist() == [100 * MIB, 250 * MIB]
    assert read.brackets == [Bracket("app.fill", 100 * MIB, EPOCH, 150 * MIB, EPOCH + 2, 1)]
    assert read.children_of_tasks == {"worker-7": [ChildrenReading(EPOCH, 25 * MIB // 2, "sort")]}
    assert read.gpus == {"gpu0": [(EPOCH, 2048 * MIB)], "worker-7": [(EPOCH, MIB // 2)]}
    assert (read.skipped, read.lost_lines) == (0, 0)


def test_the_head_is_read_also_where_a_trace_is_read_from_a_later_line_on(trace: Path) -> None:
    head = cmdline_line("app.py") + b"NOTE pss: values are proportional set sizes\n"
    trace.write_bytes(head + mem_line(MIB, EPOCH) + b"NOTE later\n" + mem_line(2 * MIB, EPOCH + 1))
    read = read_trace(trace, len(head) + 5)
    assert (read.cmdline, read.metric, read.totals_bytes.tolist()) == ("app.py", "pss", [2 * MIB])
    assert read.notes == ["pss: values are proportional set sizes", "later"]


def test_the_peak_is_the_highest_total_and_when_it_was_first_read(trace: Path) -> None:
    trace.write_bytes(b"".join(mem_line(size * MIB, EPOCH + i) for i, size in enumerate([10, 70, 70, 20])))
    read = read_trace(trace)
    assert (read.peak_bytes, read.peak_time_s) == (70 * MIB, EPOCH + 1)


def test_a_trace_without_a_total_has_no_peak(trace: Path) -> None:
    trace.write_bytes(b"")
    read = read_trace(trace)
    assert (read.cmdline, read.peak_bytes, read.peak_time_s, read.children) == (None, None, None, {})


def test_names_contain_no_white_space(trace: Path) -> None:
    trace.write_bytes(
        cmdline_line("python 'my\napp.py'")
        + child_line("worker 1\n", MIB, EPOCH)
        + func_line("Größe of\tthe lot", MIB, EPOCH, MIB, EPOCH)
        + func_line("", MIB, EPOCH, MIB, EPOCH)
    )
    read = read_trace(trace)
    assert read.cmdline == "python 'my app.py'"
    assert list(read.children) == ["worker_1_"]
    assert [bracket.name for bracket in read.brackets] == ["Größe_of_the_lot", "_"]
    assert read.skipped == 0


GARBAGE = [
    b"\n",
    b"   \n",
    b"MEM 12.3\n",
    b"MEM\n",
    b"MEM x 1795180122.0\n",
    b"MEM nan 1795180122.0\n",
    b"MEM inf 1795180122.0\n",
    b"MEM -1 1795180122.0\n",
    b"MEM 1e300 1795180122.0\n",
    b"MEM 12.3MEM 12.3 1795180122.0\n",
    b"MEM 12.3 nan\n",
    b"CHLD worker-1 12.3\n",
    b"CHLD 12.3 1795180122.0\n",
    b"FUNC two words 1 1 1 1 0\n",
    b"FUNC f 1 1 1\n",
    b"FUNC f 1 1 1 1 high\n",
    b"LOST many 1795180122.0\n",
    b"CMDLINE a\0b\n",
    b"\0\0\0\0 \0\0\n",
    bytes(range(256)).replace(b"\n", b"") + b"\n",
    b"PEAK 12.3 1795180122.0\n",
    b"noline\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_line_that_cannot_be_read_is_skipped_and_counted(trace: Path, garbage: bytes) -> None:
    trace.write_bytes(mem_line(MIB, EPOCH) + garbage + mem_line(2 * MIB, EPOCH + 1))
    read = read_trace(trace)
    assert read.skipped == 1
    assert read.totals_bytes.tolist() == [MIB, 2 * MIB]


def test_a_last_line_without_a_line_break_is_torn_even_if_it_looks_whole(trace: Path) -> None:
    trace.write_bytes(mem_line(MIB, EPOCH) + mem_line(2 * MIB, EPOCH + 1)[:-2])
    read = read_trace(trace)
    assert (read.totals_bytes.tolist(), read.skipped) == ([MIB], 1)


def test_lost_lines_and_notes_are_ours_and_not_skipped(trace: Path) -> None:
    trace.write_bytes(mem_line(MIB, EPOCH) + b"LOST 7 1795180123.0\nNOTE rss-sum: of ps\nLOST 5 1795180124.0\n")
    read = read_trace(trace)
    assert (read.lost_lines, read.notes, read.skipped) == (12, ["rss-sum: of ps"], 0)


def test_a_trace_damaged_anywhere_is_read_without_an_error(trace: Path) -> None:
    lines = [
        cmdline_line("app"),
        *(mem_line(i * MIB, EPOCH + i) + child_line("w", i * MIB, EPOCH) for i in range(20)),
        func_line("f", MIB, EPOCH, MIB, EPOCH),
        b"LOST 3 1795180122.0\n",
    ]
    whole = b"".join(lines)
    chance = random.Random(1)
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 30)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        trace.write_bytes(damaged[: chance.randrange(len(damaged))])
        read = read_trace(trace)
        kept = len(read.times_s) + sum(len(times) for times, _ in read.children.values()) + len(read.brackets)
        assert kept + read.skipped <= len(trace.read_bytes().split(b"\n"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_trace(tmp_path / "none.dat")


def test_a_million_lines_are_read(trace: Path) -> None:
    tick = mem_line(80 * MIB, EPOCH) + b"".join(child_line(f"worker-{i}", i * MIB, EPOCH) for i in range(9))
    trace.write_bytes(tick * 100_000)
    read = read_trace(trace)
    assert len(read.times_s) == 100_000
    assert sum(len(times) for times, _ in read.children.values()) == 900_000
    assert read.children["worker-8"][1].sum() == 100_000 * 8 * MIB


def test_a_process_that_writes_lines_does_not_load_numpy() -> None:
    code = "import runmem.formats.mprof_lines as m, sys; m.mem_line(1, 2.0); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
