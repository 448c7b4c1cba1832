from __future__ import annotations

from runmem.reports.record_lines import record_lines


def test_each_record_has_a_line_in_the_order_of_its_start(record):
    lines = record_lines([record(2), record(1), record(3)])
    assert [line.split()[0] for line in lines] == ["Call", "1", "2", "3"]


def test_a_missing_value_is_a_dash(record):
    line = record_lines([record(1, peak_bytes=None, end_s=None, status="running")])[1]
    assert line.split()[5] == "running"
    assert line.rstrip().endswith("-          -  missing")
    assert " 0.0 " not in line.replace("0.000 s", "")


def test_a_failed_task_names_its_exception(record):
    assert "failed (KeyError)" in record_lines([record(1, status="failed", exception="KeyError")])[1]


def test_no_records_leave_the_titles():
    assert len(record_lines([])) == 1


def test_without_data_ids_there_is_no_column_for_them(record):
    assert "Data id" not in record_lines([record(1)])[0]


def test_a_record_with_a_data_id_shows_it(record):
    titles, first, second = record_lines([record(1, data_id="{visit: 1, detector: 2}"), record(2)])
    assert "Data id" in titles
    assert "{visit: 1, detector: 2}" in first
    assert second[titles.index("Data id")] == "-"


def test_an_unclear_increment_is_marked_and_explained_below(record):
    more = {"increment_bytes": 9 * 2**20, "held_bytes": 7 * 2**20}
    reason = "between 1.0 MiB and 9.0 MiB: results for other tasks were received meanwhile"
    titles, clear, unclear, below = record_lines([record(1, **more), record(2, increment_unclear=reason, **more)])
    assert titles.split()[-3:] == ["Held", "Increment", "How"]
    assert clear.split()[-5:] == ["7.0", "MiB", "9.0", "MiB", "exact"]
    assert unclear.split()[-5:] == ["7.0", "MiB", "~9.0", "MiB", "exact"]
    assert below == "  ~ 1 unclear: results for other tasks were received meanwhile"
