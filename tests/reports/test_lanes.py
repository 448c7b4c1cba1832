from __future__ import annotations

from runmem.reports.lanes import Bar, bars_of_records, lanes


def test_tasks_that_follow_each_other_share_a_lane():
    bars = [Bar("a", "worker 1", 0, 1), Bar("b", "worker 1", 1, 2)]
    assert lanes(bars) == [("worker 1", bars)]


def test_tasks_that_overlap_get_lanes_of_their_own_and_only_the_first_is_named():
    bars = [Bar("a", "worker 1", 0, 2), Bar("b", "worker 1", 1, 3), Bar("c", "worker 1", 2, 4)]
    assert lanes(bars) == [("worker 1", [bars[0], bars[2]]), ("", [bars[1]])]


def test_workers_come_in_the_order_of_their_numbers():
    names = [name for name, _ in lanes([Bar("a", "worker 10", 0, 1), Bar("a", "worker 9", 0, 1)])]
    assert names == ["worker 9", "worker 10"]


def test_a_task_without_an_end_has_no_bar_and_an_inexact_peak_is_not_marked(record):
    bars = bars_of_records([record(1, end_s=None), record(2), record(3, shared=True), record(4, method="sampled")])
    assert [bar.peak_bytes is not None for bar in bars] == [True, False, False]
