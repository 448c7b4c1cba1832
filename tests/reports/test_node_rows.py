from __future__ import annotations

from pathlib import Path

import pytest

from runmem.formats.mprof import read_trace
from runmem.reports.node_rows import node_rows, trace_owner
from runmem.units import GIB, MIB


@pytest.fixture
def trace(tmp_path: Path):
    def make(text: str):
        path = tmp_path / "trace.dat"
        path.write_text(text)
        return read_trace(path)

    return make


def test_a_node_has_its_peak_against_what_it_allows_and_its_top_worker_against_the_limit(trace, record):
    traces = {"n1.dat": trace("MEM 100 1000\nMEM 300 1001\nMEM 200 1002\nCHLD worker-1 150 1001\n")}
    nodes = {"n1": {"memory_bytes": 900 * MIB, "limit_bytes": 600 * MIB, "limit_source": "cgroup"}}
    (row,) = node_rows([record(1, peak_bytes=50 * MIB, limit_bytes=200 * MIB)], traces, nodes)
    assert (row.peak_bytes, row.peak_time_s) == (300 * MIB, 1001.0)
    assert (row.memory_bytes, row.allowed_bytes, row.allowed_fraction) == (900 * MIB, 600 * MIB, 0.5)
    assert (row.worker_peak_bytes, row.limit_bytes, row.limit_fraction) == (150 * MIB, 200 * MIB, 0.75)


def test_the_top_worker_may_be_known_from_a_record_where_the_samples_missed_it(trace, record):
    traces = {"n1.dat": trace("MEM 100 1000\nCHLD worker-10 90 1000\n")}
    (row,) = node_rows([record(1, peak_bytes=400 * MIB)], traces, {})
    assert row.worker_peak_bytes == 400 * MIB


def test_a_nodes_peak_is_at_least_that_of_a_task_at_an_unknown_time(trace, record):
    traces = {"n1.dat": trace("MEM 914 1000\nCHLD worker-10 900 1000\n")}
    (row,) = node_rows([record(1, peak_bytes=962 * MIB), record(2, node="n2", peak_bytes=GIB)], traces, {})[:1]
    assert (row.peak_bytes, row.peak_time_s) == (962 * MIB, None)


def test_a_limit_above_the_memory_of_a_node_does_not_allow_more(trace):
    traces = {"n1.dat": trace("MEM 256 1\n")}
    (row,) = node_rows([], traces, {"n1": {"memory_bytes": 512 * MIB, "limit_bytes": GIB}})
    assert (row.allowed_bytes, row.allowed_fraction) == (512 * MIB, 0.5)


@pytest.mark.parametrize(("is_limited", "allowed_bytes"), [(True, 256 * MIB), (False, GIB)])
def test_the_limit_of_its_host_applies_to_a_master_that_started_the_workers(trace, is_limited, allowed_bytes):
    traces = {"mprofile_20260921132320.dat": trace("MEM 128 1\n")}
    nodes = {"a": {"memory_bytes": GIB, "limit_bytes": 256 * MIB}}
    master = node_rows([], traces, nodes, "a", is_limited)[0]
    assert (master.node, master.allowed_bytes) == ("master", allowed_bytes)


def test_totals_that_count_shared_pages_repeatedly_are_not_lower_bounds(trace):
    exact, summed = trace("MEM 1 1\n"), trace("NOTE rss-sum: shared pages count repeatedly\nMEM 1 1\n")
    rows = node_rows([], {"linux.dat": exact, "mac.dat": summed}, {})
    assert [row.is_lower_bound for row in rows] == [True, False]


def test_the_limit_in_the_records_overrides_that_of_the_node(record):
    (row,) = node_rows([record(1, limit_bytes=512 * MIB)], {}, {"n1": {"limit_bytes": 2 * GIB}})
    assert row.limit_bytes == 512 * MIB


def test_a_node_without_a_trace_has_a_row_with_what_is_known(record):
    (row,) = node_rows([record(1, limit_bytes=512 * MIB)], {}, {})
    assert (row.node, row.peak_bytes, row.allowed_fraction, row.limit_bytes) == ("n1", None, None, 512 * MIB)


def test_the_master_is_first_and_compared_with_the_memory_of_its_host(trace):
    traces = {"a.dat": trace("MEM 1 1\n"), "mprofile_20260921132320.dat": trace("MEM 512 1\n")}
    rows = node_rows([], traces, {"a": {"memory_bytes": GIB}}, master_host="a")
    assert [row.node for row in rows] == ["master", "a"]
    assert rows[0].allowed_fraction == 0.5


def test_notes_of_a_trace_are_in_the_row(trace):
    (row,) = node_rows([], {"mac.dat": trace("NOTE rss-sum shared pages are counted more than once\nMEM 1 1\n")}, {})
    assert "rss-sum" in row.notes[0]


@pytest.mark.parametrize(
    ("file", "owner"),
    [("n1.dat", "n1"), ("my_node.dat", "my node"), ("mprofile_20260921132320.dat", "master"), ("other.dat", "other")],
)
def test_a_trace_belongs_to_the_node_it_is_named_after(file, owner):
    assert trace_owner(file, ["n1", "my node"]) == owner


@pytest.mark.parametrize("odd", [None, "lots", -1, 0])
def test_an_odd_memory_size_is_taken_as_not_known(odd):
    (row,) = node_rows([], {}, {"n1": {"memory_bytes": odd, "limit_bytes": odd}})
    assert (row.memory_bytes, row.limit_bytes) == (None, None)


@pytest.mark.parametrize(
    ("note", "time_s", "command", "is_lower_bound"),
    [
        ("", 1001, "(forked)", False),
        ("", 1000, "(forked)", True),
        ("", 1001, "sort", True),
        ("NOTE pss: divided\n", 1001, "(forked)", True),
    ],
)
def test_a_total_with_forked_processes_is_no_lower_bound(trace, note, time_s, command, is_lower_bound):
    lines = f"{note}MEM 100 1000\nMEM 300 1001\nCHLD worker-1 300 1001\nCHILDREN worker-1 {command} 200 {time_s}\n"
    (row,) = node_rows([], {"n1.dat": trace(lines)}, {})
    assert (row.peak_bytes, row.is_lower_bound) == (300 * MIB, is_lower_bound)
