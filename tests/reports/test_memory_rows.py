"""What Dask did about memory, as a table and as marks of the figure."""

from __future__ import annotations

from runmem.formats.memory_events import MemoryEvent
from runmem.formats.mprof import read_trace
from runmem.reports.event_marks import mark_events
from runmem.reports.figure import panels_of_run
from runmem.reports.memory_rows import memory_rows, pauses
from runmem.reports.summary import RunSummary
from runmem.reports.trace_summary import TraceSummary
from runmem.store.run import read_run
from runmem.units import MIB

from .conftest import START


def event(kind: str, after_s: float, pid: int = 10, size_mib: int = 80, spilled_mib: int = 0, results: int = 0):
    return MemoryEvent(kind, pid, START + after_s, size_mib * MIB, spilled_mib * MIB, results)


EVENTS = [
    event("spilled", 1.0, spilled_mib=10, results=2),
    event("spilled", 2.5, size_mib=85, spilled_mib=30, results=3),  # the same phase: less than 2 s later
    event("paused", 2.6),
    event("resumed", 3.1),
    event("spilled", 6.0, spilled_mib=5, results=1),
    event("paused", 6.1),  # until the last reading of the worker, after 4 s: 0 s
    event("terminated", 6.5, size_mib=95),
    MemoryEvent("restarted", 11, START + 6.9),
]
LINES = b"".join(each.line() for each in EVENTS)


def test_events_are_counted_by_worker_and_kind(write_run, record) -> None:
    run = read_run(write_run([record()], LINES).root)
    rows = RunSummary.from_run(run).memory
    assert [(row.node, row.pid, row.kind, row.times) for row in rows] == [
        ("n1", 10, "spilled", 2), ("n1", 10, "paused", 2), ("n1", 10, "terminated", 1), ("n1", 11, "restarted", 1),
    ]  # fmt: skip
    spilled, paused, terminated, restarted = rows
    assert (spilled.spilled_bytes, spilled.results, spilled.size_bytes) == (45 * MIB, 6, 85 * MIB)
    assert (spilled.first_s - START, spilled.last_s - START) == (1.0, 6.0)
    assert paused.paused_s == 0.5
    assert (terminated.size_bytes, terminated.spilled_bytes, terminated.paused_s) == (95 * MIB, None, None)
    assert restarted.size_bytes is None


def test_the_summary_shows_them_and_the_one_of_a_trace_too(write_run, record) -> None:
    run = write_run([record()], LINES)
    text = [line for line, _ in RunSummary.from_run(read_run(run.root)).lines()]
    at = text.index("Spilled, paused or restarted")
    assert text[at + 1].split() == [
        "Worker",
        "Node",
        "Dask",
        "Times",
        "First",
        "Last",
        "Size",
        "then",
        "Spilled",
        "Paused",
    ]
    assert text[at + 2].split() == ["10", "n1", "spilled", "2", "1.0", "s", "6.0", "s", "85.0", "MiB", "45.0", "MiB"]
    assert text[at + 3].split()[-2:] == ["0.50", "s"]
    assert any("More memory for each worker" in line for line in text)
    of_trace = [line for line, _ in TraceSummary.from_file(run.traces / "n1.dat")._lines(None)]
    assert "Spilled, paused or restarted" in of_trace


def test_a_run_without_them_says_nothing(write_run, record) -> None:
    run = read_run(write_run([record()]).root)
    assert RunSummary.from_run(run).memory == []
    assert "Spilled, paused or restarted" not in [line for line, _ in RunSummary.from_run(run).lines()]


def test_a_process_with_several_workers_is_paused_while_one_is() -> None:
    kinds = [("resumed", 0), ("paused", 1), ("paused", 2), ("resumed", 3), ("resumed", 4), ("paused", 6)]
    assert pauses([event(kind, at_s) for kind, at_s in kinds], START + 9) == [
        (START + 1, START + 4),
        (START + 6, START + 9),
    ]


def test_workers_of_two_nodes_with_one_process_id_are_told_apart(tmp_path) -> None:
    traces = {}
    for node in ("n1", "n2"):
        (tmp_path / f"{node}.dat").write_bytes(event("paused", 1).line())
        traces[f"{node}.dat"] = read_trace(tmp_path / f"{node}.dat")
    assert [(row.node, row.pid) for row in memory_rows(traces, ["n1", "n2"])] == [("n1", 10), ("n2", 10)]


def test_the_figure_has_a_mark_on_the_curve_for_each_event(write_run, record) -> None:
    from matplotlib.figure import Figure

    (panel, *_) = panels_of_run(read_run(write_run([record()], LINES).root))
    axis = Figure().subplots()
    mark_events(axis, panel.trace, START, MIB)
    drawn = {line.get_label(): line.get_xydata().round(3).tolist() for line in axis.get_lines()}
    assert drawn["spilled to disk"] == [[1.0, 60.0], [2.5, 75.0], [6.0, 90.0]]  # 50 MiB, and 10 more each second
    assert drawn["ended by its nanny"] == [[6.5, 90.0]]
    assert drawn["paused by Dask"] == [[2.6, 76.0], [3.0, 80.0], [3.1, 81.0]]
    assert [x for x, _ in drawn["restarted"]] == [6.9]
