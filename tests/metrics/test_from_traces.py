from __future__ import annotations

import numpy as np
import pytest

from runmem.formats.mprof import Bracket, Trace
from runmem.metrics.from_traces import bracket_peaks, node_peak, run_peak, total_over_time, trace_owner, with_children


def trace(*readings: tuple[float, int], brackets: tuple[Bracket, ...] = ()) -> Trace:
    times_s = np.array([time_s for time_s, _ in readings], dtype=np.float64)
    return Trace(None, times_s, np.array([size for _, size in readings], dtype=np.int64), {}, list(brackets))


def sum_at(traces: list[Trace], time_s: float) -> int:
    """Return the sum by its definition, one node at a time."""
    total = 0
    for one in traces:
        before = [(t, size) for t, size in zip(one.times_s, one.totals_bytes, strict=True) if t <= time_s]
        if before and time_s <= one.times_s.max():
            total += int(before[-1][1])
    return total


def peak_of(*traces: Trace) -> tuple[int, float | None]:
    nodes = {str(number): one for number, one in enumerate(traces)}
    peaks = {node: peak for node, one in nodes.items() if (peak := node_peak(one)) is not None}
    found = run_peak({node: nodes[node] for node in peaks}, peaks)
    assert found is not None
    return found.peak_bytes, found.time_s


def test_the_peak_of_the_run_is_not_the_sum_of_peaks():
    assert peak_of(trace((0, 10), (2, 100), (4, 5)), trace((0, 80), (1, 20), (5, 20))) == (120, 2)


def test_nodes_that_were_not_there_at_one_time_do_not_add_up():
    assert peak_of(trace((0, 100), (1, 100)), trace((1.5, 90), (3, 90))) == (100, 0)


def test_of_one_node_the_peak_is_its_own_and_of_none_there_is_none():
    assert peak_of(trace((0, 1), (1, 7), (2, 3))) == (7, 1)
    assert run_peak({}, {}) is None
    assert node_peak(trace()) is None


def test_a_workers_peak_may_exceed_all_samples_of_its_node():
    peak = node_peak(trace((0, 100)), 130)
    assert peak is not None
    assert (peak.peak_bytes, peak.time_s) == (130, None)
    other = node_peak(trace((9, 1)))
    assert other is not None
    whole = run_peak({"a": trace((0, 100)), "b": trace((9, 1))}, {"a": peak, "b": other})
    assert whole is not None
    assert (whole.peak_bytes, whole.time_s) == (130, None)


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_over_time_is_that_of_the_last_readings(seed):
    random = np.random.default_rng(seed)
    traces = [
        trace(*zip(np.unique(random.integers(0, 60, 30)) / 4 + node, random.integers(1, 1000, 60), strict=False))
        for node in range(4)
    ]
    times_s, totals = total_over_time(traces)
    assert bool(np.all(np.diff(times_s) > 0))
    assert totals[-1] == 0
    for time_s, total in zip(times_s, totals, strict=True):
        assert total == sum_at(traces, time_s)


def test_a_bracket_has_the_highest_total_inside_it():
    inside, ends = Bracket("m.f", 10, 1.0, 20, 3.0), Bracket("m.f", 30, 4.1, 25, 4.2)
    found = bracket_peaks([trace((0, 900), (2, 500), (1.5, 40), (3.5, 800), brackets=(inside, ends))])
    assert [(peak.peak_bytes, peak.time_s) for peak in found["m.f"]] == [(500, 2.0), (30, 4.1)]


def test_a_trace_belongs_to_the_node_that_it_is_called_after():
    assert trace_owner("mprofile_20261120120000.dat", ["n1"]) == "master"
    assert trace_owner("n_1.dat", ["n 1"]) == "n 1"
    assert trace_owner("other.dat", ["n1"]) == "other"


def mprof(totals: list[int], children: dict[str, list[int]]) -> Trace:
    """Return a trace as `mprof run --multiprocess` writes it: at each reading the total, and then its children."""
    times_s = np.arange(len(totals), dtype=np.float64)
    series = {name: (times_s + 0.01, np.array(sizes, dtype=np.int64)) for name, sizes in children.items()}
    return Trace(None, times_s, np.array(totals, dtype=np.int64), series, [])


def test_children_missing_in_the_total_are_added():
    found = with_children(mprof([10, 10, 11, 10], {"71": [50, 60, 5, 0], "72": [0, 40, 30, 0]}))
    assert list(found.totals_bytes) == [60, 110, 46, 10]
    assert found.notes[0].startswith("rss-sum")


def test_children_that_may_be_in_the_total_are_not_counted_twice():
    held = with_children(mprof([60, 110, 46, 10], {"71": [50, 60, 5, 0], "72": [0, 40, 30, 0]}))
    assert list(held.totals_bytes) == [60, 110, 46, 10]
    assert "unless --include-children" in held.notes[0]


def test_the_workers_of_a_node_are_in_its_total():
    ours = mprof([60, 40], {"worker-71": [70, 80]})
    assert with_children(ours) is ours
