"""Torn, foreign and binary lines in the files of a run are skipped and counted by `report` and `metric`."""

from __future__ import annotations

import pytest

PROGRAM = """
from runmem import task, wait_on

@task(returns=1)
def square(number):
    return number * number

if __name__ == "__main__":
    wait_on([square(i) for i in range(6)])
"""


def node_trace(ran):
    """Return the trace of the node that the workers were on."""
    (trace,) = [path for path in (ran.runs[-1] / "traces").glob("*.dat") if not path.name.startswith("mprofile_")]
    return trace


@pytest.fixture(scope="module")
def damaged(module_folder, runmem, write):
    """Record a run and damage its files: torn, foreign and binary lines, at the end and in the middle."""
    write(module_folder, "app.py", PROGRAM)
    ran = runmem(module_folder, "--python_memory_profile", "--workers=1", "app.py")
    assert ran.code == 0, ran.err
    records = ran.runs[-1] / "tasks.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    foreign = [b"\x00\xff\xfe\n", b"a line of another program\n", b'{"task_id": "seven"}\n', b"[1, 2]\n"]
    records.write_bytes(b"".join([*lines[:3], *foreign, *lines[3:5], lines[5][:40]]))
    trace = node_trace(ran)
    trace.write_bytes(trace.read_bytes() + b"MEM 12.3\n\nMEM \xff\xfe 3\n\x00\x00\nFUNC a b c\nMEM 99")
    return ran


def test_the_report_skips_and_counts_them(damaged, runmem):
    report = runmem(damaged.folder, "report")
    assert report.code == 0, report.err
    assert "6 task calls" in report.out
    assert "tasks.jsonl: 5 lines skipped (torn, foreign or binary)" in report.out
    assert report.err == ""


def test_the_lines_of_a_trace_are_counted_too(damaged, runmem):
    report = runmem(damaged.folder, "report", str(node_trace(damaged)))
    assert report.code == 0, report.err
    assert "skipped" in report.out


def test_the_metric_skips_and_counts_them(damaged, runmem):
    metric = runmem(
        damaged.folder, "metric", str(damaged.runs[-1]), "--target", "square", "--package", "demo", "--metric", "Peak"
    )
    assert metric.code == 0, metric.err
    assert "tasks.jsonl: 5 lines skipped" in metric.out
    assert "calls    5" in metric.out


def test_a_file_of_nothing_but_noise_is_no_run(tmp_path, runmem):
    (tmp_path / "run").mkdir()
    ran = runmem(tmp_path, "report", "run")
    assert ran.code == 2
    assert "is not a run directory" in ran.err
