"""The lines of a tick, kept from the one before."""

from __future__ import annotations

from runmem.node.trace_lines import TraceLines
from runmem.units import MIB


def test_a_line_has_the_memory_of_the_last_change_and_the_time_of_the_tick() -> None:
    lines = TraceLines()
    lines.add(5, "a")
    lines.add(6, "b")
    lines.change(5, (3 * MIB, MIB))
    lines.change(6, (MIB, 2 * MIB))
    assert lines.at(1.5) == b"MEM 6.000000 1.5000\nCHLD a 4.000000 1.5000\nCHLD b 3.000000 1.5000\n"
    lines.change(6, (0, MIB))
    assert lines.at(2.0) == b"MEM 4.000000 2.0000\nCHLD a 4.000000 2.0000\nCHLD b 1.000000 2.0000\n"


def test_a_process_without_a_series_counts_in_the_total_alone() -> None:
    lines = TraceLines()
    lines.add(5, "")
    lines.change(5, (MIB, MIB))
    assert lines.at(1.0) == b"MEM 2.000000 1.0000\n"


def test_an_ended_process_has_no_line_and_without_processes_there_is_no_tick() -> None:
    lines = TraceLines()
    lines.add(5, "a")
    lines.add(6, "b")
    assert lines.at(0.5) == b""
    lines.change(5, (MIB, 0))
    lines.change(6, (MIB, 0))
    lines.change(5, None)
    assert lines.at(1.0) == b"MEM 1.000000 1.0000\nCHLD b 1.000000 1.0000\n"
    lines.change(6, None)
    assert lines.at(1.5) == b""
