"""The lines about what Dask did about memory, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from runmem.formats.memory_events import KINDS, SPILLED, TERMINATED, MemoryEvent
from runmem.formats.mprof import read_trace
from runmem.formats.mprof_lines import mem_line
from runmem.units import MIB

EPOCH = 1795180122.25


def test_what_is_written_is_read(tmp_path: Path) -> None:
    events = [MemoryEvent(kind, 7 + number, EPOCH + number, 90 * MIB) for number, kind in enumerate(KINDS)]
    events[0] = MemoryEvent(SPILLED, 7, EPOCH, 90 * MIB, 12 * MIB + 4096, 3)
    events.append(MemoryEvent(TERMINATED, 9, EPOCH + 9))  # its size could not be read
    trace = tmp_path / "n1.dat"
    trace.write_bytes(mem_line(MIB, EPOCH) + b"".join(event.line() for event in events) + mem_line(MIB, EPOCH + 1))
    read = read_trace(trace)
    assert read.events == events
    assert (read.skipped, len(read.times_s)) == (0, 2)


@pytest.mark.parametrize(
    "line",
    [
        b"EVENT vanished worker-7 1.0 5.0",
        b"EVENT paused process-7 1.0 5.0",
        b"EVENT paused worker-x 1.0 5.0",
        b"EVENT paused worker--7 1.0 5.0",
        b"EVENT paused worker-7 nan 5.0",
        b"EVENT paused worker-7 -1 5.0",
        b"EVENT paused worker-7 1.0 1e99",
        b"EVENT paused worker-7 1.0",
        b"EVENT spilled worker-7 1.0 5.0 3.0",
        b"EVENT spilled worker-7 1.0 5.0 3.0 -1",
        "EVENT paused wörker-7 1.0 5.0".encode(),
    ],
)
def test_a_damaged_line_is_skipped_and_counted(tmp_path: Path, line: bytes) -> None:
    trace = tmp_path / "n1.dat"
    trace.write_bytes(line + b"\n" + MemoryEvent("paused", 7, EPOCH, MIB).line())
    read = read_trace(trace)
    assert ([event.pid for event in read.events], read.skipped) == ([7], 1)
