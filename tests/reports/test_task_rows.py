from __future__ import annotations

import pytest

from runmem.reports.task_rows import how_measured, task_rows
from runmem.units import MIB


def test_a_row_counts_calls_and_executions_apart(record):
    (row,) = task_rows([record(1, status="failed"), record(1, attempt=2), record(2), record(3, status="killed")])
    assert (row.calls, row.executions, row.failed, row.killed) == (3, 4, 1, 1)


def test_a_row_has_the_highest_peak_with_its_node_and_the_largest_increment(record):
    rows = task_rows([
        record(1, peak_bytes=300 * MIB, base_bytes=290 * MIB, node="n2"),
        record(2, peak_bytes=200 * MIB, base_bytes=10 * MIB),
    ])  # fmt: skip
    assert (rows[0].max_peak_bytes, rows[0].max_node) == (300 * MIB, "n2")
    assert rows[0].max_increment_bytes == 190 * MIB


def test_rows_come_highest_first_and_without_a_peak_last(record):
    records = [record(1, name="a", peak_bytes=None), record(2, name="b"), record(3, name="c", peak_bytes=900 * MIB)]
    assert [row.name for row in task_rows(records)] == ["c", "b", "a"]


def test_without_any_peak_every_size_is_missing_not_zero(record):
    (row,) = task_rows([record(1, peak_bytes=None, method=None)])
    assert (row.max_peak_bytes, row.p95_peak_bytes, row.max_increment_bytes, row.max_how) == (None, None, None, None)
    assert row.missing == 1


@pytest.mark.parametrize(
    ("fields", "how"),
    [
        ({}, "exact"),
        ({"method": "sampled"}, "sampled"),
        ({"shared": True}, "shared"),
        ({"method": "sampled", "shared": True}, "unclear"),
        ({"method": None}, "sampled"),
        ({"peak_bytes": None}, "missing"),
    ],
)
def test_each_execution_is_counted_by_how_it_was_measured(record, fields, how):
    one = record(1, **fields)
    assert how_measured(one) == how
    (row,) = task_rows([one])
    counts = {kind: getattr(row, kind) for kind in ("exact", "sampled", "shared", "unclear", "missing")}
    assert counts == {**dict.fromkeys(counts, 0), how: 1}


def test_a_name_that_two_modules_have_is_given_with_its_module(record):
    rows = task_rows([record(1), record(2, module="other"), record(3, name="merge")])
    assert {row.name for row in rows} == {"wordcount.count_words", "other.count_words", "merge"}


def test_no_records_make_no_rows():
    assert task_rows([]) == []


@pytest.mark.parametrize(
    ("highest", "other", "how"),
    [
        ({}, {"status": "killed", "method": "sampled"}, "sampled"),
        ({}, {"peak_bytes": None}, "sampled"),
        ({"shared": True}, {"method": "sampled"}, "unclear"),
        ({"recorded_by": "memray"}, {"method": "sampled"}, "unclear"),
        ({}, {"shared": True}, "exact"),
        ({"method": "sampled"}, {}, "sampled"),
    ],
)
def test_the_highest_peak_is_no_more_than_what_is_known_of_all_executions(record, highest, other, how):
    (row,) = task_rows(
        [record(1, **{"peak_bytes": 300 * MIB, **highest}), record(2, **{"peak_bytes": 200 * MIB, **other})]
    )
    assert (row.max_peak_bytes, row.max_how) == (300 * MIB, how)


@pytest.mark.parametrize(
    ("kinds", "how"),
    [
        ([{}], "exact"),
        ([{}, {"method": "sampled"}], "sampled"),
        ([{}, {"shared": True}], "shared"),
        ([{"method": "sampled"}, {"shared": True}], "unclear"),
    ],
)
def test_a_percentile_is_a_bound_where_one_of_its_values_is(record, kinds, how):
    (row,) = task_rows([record(number, **kinds[number % len(kinds)]) for number in range(20)])
    assert row.p95_how == how


def test_increments_of_sampled_peaks_are_lower_bounds(record):
    (exact,), (sampled,) = task_rows([record(1)]), task_rows([record(1), record(2, method="sampled")])
    (unclear,) = task_rows([record(1, increment_unclear="between")])
    assert [row.increments_how for row in (exact, sampled, unclear)] == ["exact", "sampled", "unclear"]


@pytest.mark.parametrize(
    ("fields", "metric", "how"),
    [
        ([{"children_method": "hwm"}], "rss", "exact"),
        ([{"children_method": "hwm"}, {"children_method": "sampled", "children_peak_bytes": MIB}], "rss", "sampled"),
        ([{"children_method": "hwm"}, {"children_method": "missed", "children_peak_bytes": None}], "rss", "sampled"),
        ([{"children_method": "sampled", "children_command": "(forked)"}], "rss", "unclear"),
        ([{"children_method": "sampled", "children_command": "(forked)"}], "pss", "sampled"),
        ([{"children_method": "sampled", "children_command": "sort"}], "rss", "sampled"),
    ],
)
def test_the_peak_of_children_is_a_bound_unless_all_are_known_exactly(record, fields, metric, how):
    (row,) = task_rows(
        [record(number, **{"children_peak_bytes": 9 * MIB, **each}) for number, each in enumerate(fields)], metric
    )
    assert (row.children_peak_bytes, row.children_how) == (9 * MIB, how)
