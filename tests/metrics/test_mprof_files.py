"""Files that the real ``mprof run`` wrote, in each of its modes, and those of PyCOMPSs: input of metric and report."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runmem.cli.metric import command
from runmem.formats.mprof import read_trace
from runmem.metrics.measured_run import MeasuredRun, read_measured_runs
from runmem.reports.figure import panel_of_trace
from runmem.reports.trace_summary import TraceSummary
from runmem.units import MIB

PARENT, CHILD = 60 * MIB, 120 * MIB
WITH_CHILD = f"""
import subprocess, sys
held = bytearray(b"x") * {PARENT}
child = "import waiting; held = bytearray(b'x') * {CHILD}; waiting.until_read()"
subprocess.run([sys.executable, "-c", child], check=True)
"""
PROFILED = """
import waiting
@profile
def grow(mebibytes):
    held = bytearray(b"x") * (mebibytes * 2**20)
    waiting.until_read()

grow(50)
grow(90)
"""

WAITING = """
import os, time

def until_read():
    for _ in range(2):  # mprof writes 50 lines at a time; of the first that come some were read earlier
        size = os.path.getsize("found.dat")
        while os.path.getsize("found.dat") == size:
            time.sleep(0.02)
"""


def mprof_run(folder: Path, source: str, *options: str) -> Path:
    (folder / "program.py").write_text(source)
    (folder / "waiting.py").write_text(WAITING)
    python = [] if "--python" in options else [sys.executable]
    command = [sys.executable, "-m", "mprof", "run", "-T", "0.01", *options, "-o", "found.dat", *python, "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "found.dat"


def peak_of(run: MeasuredRun) -> int:
    peak = run.run_peak()
    assert peak is not None
    return peak.peak_bytes


@pytest.mark.parametrize("children", [True, False])
@pytest.mark.parametrize("multiprocess", [True, False])
def test_children_written_by_mprof_count(tmp_path, multiprocess, children):
    options = ["--multiprocess"] * multiprocess + ["--include-children"] * children
    path = mprof_run(tmp_path, WITH_CHILD, *options)
    assert bool(read_trace(path).children) == multiprocess
    (run,) = read_measured_runs([path])
    least = PARENT + CHILD if multiprocess or children else PARENT
    assert least < peak_of(run) < least + 60 * MIB  # at most twice the memory of Python
    summary = TraceSummary.from_file(path)
    assert summary.peak_bytes == peak_of(run)
    assert panel_of_trace(path).trace.peak_bytes == peak_of(run)
    assert any("mprof" in note or "rss-sum" in note for note in summary.notes) == multiprocess
    if multiprocess:  # mprof may catch a child of a moment too
        assert CHILD < max(summary.series_peaks_bytes.values()) < CHILD + 30 * MIB


def test_functions_that_mprof_brackets_are_targets(tmp_path):
    path = mprof_run(tmp_path, PROFILED, "--python")
    result = CliRunner().invoke(command, [str(path), "--target", "__main__.grow"])
    assert result.exit_code == 0, result.output
    assert re.search(r"trace\.GrowMemory +>=\d+\.\d MiB +sampled +__main__\.grow", result.output)
    (run,) = read_measured_runs([path])
    first, second = (peak.peak_bytes for peak in run.bracket_peaks("__main__.grow"))
    assert 50 * MIB < first < 90 * MIB < second < (90 + 40) * MIB
    assert TraceSummary.from_file(path).brackets == 2


def test_files_of_pycompss_are_one_run_whose_master_is_not_a_node(tmp_path):
    """The master's file is called after the time, that of each node after the node; the lines are those of mprof."""
    (tmp_path / "mprofile_20261120120000.dat").write_text(
        "CMDLINE python wordcount.py\nMEM 80.000000 1000.0000\nMEM 90.000000 1001.0000\n"
    )
    for node, sizes in (("worker1", (100, 300)), ("worker2", (250, 50))):
        lines = "".join(f"MEM {size:.6f} {1000 + at:.4f}\n" for at, size in enumerate(sizes))
        bracket = f"FUNC wordcount.count_words {sizes[0]:.4f} 1000.0000 {sizes[1]:.4f} 1001.0000 0\n"
        (tmp_path / f"{node}.dat").write_text(f"CMDLINE worker.py\n{lines}{bracket}")
    for given in ([tmp_path], sorted(tmp_path.glob("*.dat"))):
        (run,) = read_measured_runs(given)
        assert (run.nodes, run.masters) == (("worker1", "worker2"), ("master",))
        assert peak_of(run) == 350 * MIB  # at 1000 s and at 1001 s; the sum of the peaks is 550 MiB
        assert [peak.peak_bytes for peak in run.bracket_peaks("wordcount.count_words")] == [300 * MIB, 250 * MIB]
        master = run.node_peak("master")
        assert master is not None
        assert master.peak_bytes == 90 * MIB
