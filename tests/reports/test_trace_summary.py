from __future__ import annotations

import io

import pytest
from rich.console import Console

from runmem.errors import SettingError
from runmem.reports.trace_summary import TraceSummary
from runmem.units import MIB


def test_a_trace_of_mprof_has_its_peak_and_time(tmp_path):
    path = tmp_path / "mprofile_20260921132320.dat"
    path.write_text("CMDLINE python app.py\nMEM 10.0 1000.0\nFUNC app.f 10 1000 20 1002 0\nMEM 30.5 1002.5\n")
    summary = TraceSummary.from_file(path)
    assert (summary.peak_bytes, summary.peak_after_s, summary.samples) == (int(30.5 * MIB), 2.5, 2)
    assert (summary.brackets, summary.cmdline) == (1, "python app.py")
    out = io.StringIO()
    summary.render(Console(file=out))
    assert "peak 30.5 MiB after 2.5 s" in out.getvalue()
    assert out.getvalue().splitlines()[-1] == f"  mprof plot {path}"


def test_torn_foreign_and_binary_lines_are_counted(tmp_path):
    path = tmp_path / "n1.dat"
    path.write_bytes(b"MEM 1 1\n\0\0\0\n\nHELLO world\nMEM 12.3\nMEM 2 2\nMEM 3")
    summary = TraceSummary.from_file(path)
    assert (summary.samples, summary.skipped) == (2, 5)
    out = io.StringIO()
    summary.render(Console(file=out))
    assert "5 lines skipped" in out.getvalue()


def test_a_trace_with_only_children_has_no_total_and_does_not_invent_one(tmp_path):
    path = tmp_path / "n1.dat"
    path.write_text("CHLD a 5 1\nCHLD b 7 1\n")
    summary = TraceSummary.from_file(path)
    assert (summary.peak_bytes, summary.span_s) == (None, None)
    assert list(summary.series_peaks_bytes) == ["b", "a"]
    out = io.StringIO()
    summary.render(Console(file=out))
    assert "n1.dat: peak -" in out.getvalue()


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x00\x01\n", b"hello\n"])
def test_a_file_without_a_trace_is_refused(tmp_path, content):
    path = tmp_path / "x.dat"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=r"x\.dat is not a memory trace"):
        TraceSummary.from_file(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingError, match="cannot be read"):
        TraceSummary.from_file(tmp_path / "x.dat")
