from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runmem.events import TaskRecord
from runmem.store.records import RecordFold, killed, record_from_line, record_to_line

RECORD = TaskRecord(
    7, "app", "work", "/a/app.py", "node1", 123, 9876543210, 1, 100.5, 101.25, 0.5, 1000, 5000, 2000, "hwm", False,
    "finished", None, None, 10**9, 6000, None,
)  # fmt: skip


def start_line(task_id: int, start_s: float, **more: Any) -> bytes:
    values = {
        "event": "start", "task_id": task_id, "start_s": start_s, "thread": 1, "base_bytes": 10, "module": "app",
        "name": "work", "file": "a.py", "node": "n", "pid": 5, "limit_bytes": None,
    }  # fmt: skip
    return json.dumps({**values, **more}).encode() + b"\n"


def end_line(task_id: int, end_s: float, **more: Any) -> bytes:
    values = {"event": "end", "task_id": task_id, "end_s": end_s, "peak_bytes": 30, "status": "finished"}
    return json.dumps({**values, **more}).encode() + b"\n"


def test_a_record_comes_back_from_its_line() -> None:
    line = record_to_line(RECORD)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert record_from_line(line) == RECORD
    assert json.loads(line)["increment_bytes"] == 4000


def test_what_is_missing_stays_none() -> None:
    record = replace(RECORD, base_bytes=None, peak_bytes=None, method=None, end_s=None, reason="no /proc")
    again = record_from_line(record_to_line(record))
    assert again == record
    assert again.increment_bytes is None
    assert again.elapsed_s is None


def test_fields_of_a_later_version_are_passed_over() -> None:
    values = {**json.loads(record_to_line(RECORD)), "pss_bytes": {"a": [1]}}
    assert record_from_line(json.dumps(values).encode()) == RECORD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peak_bytes", "abc"), ("peak_bytes", True), ("peak_bytes", 1.5), ("peak_bytes", -1), ("base_bytes", []),
        ("limit_bytes", -5), ("name", None), ("name", 5), ("module", None), ("node", ["n"]), ("start_s", float("nan")),
        ("start_s", float("inf")), ("start_s", "1"), ("start_s", None), ("start_s", -1.0), ("end_s", float("nan")),
        ("cpu_s", {}), ("task_id", "7"), ("task_id", None), ("task_id", True), ("pid", 1.0), ("shared", 1),
        ("shared", None), ("status", None), ("exception", 3), ("attempt", 0.5), ("method", False),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_range_is_no_record(field: str, value: Any) -> None:
    assert record_from_line(json.dumps({**json.loads(record_to_line(RECORD)), field: value}).encode()) is None


@pytest.mark.parametrize("field", ["task_id", "start_s", "name", "module", "node", "pid", "thread", "file"])
def test_a_line_without_a_needed_field_is_no_record(field: str) -> None:
    values = json.loads(record_to_line(RECORD))
    del values[field]
    assert record_from_line(json.dumps(values).encode()) is None


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[1]", b"3", b"null", b"\xff\xfe\x00", b'{"a": 1}', record_to_line(RECORD)[:-9]]
)
def test_a_torn_or_foreign_line_is_no_record(line: bytes) -> None:
    assert record_from_line(line) is None


def test_a_start_and_an_end_make_a_record() -> None:
    fold = RecordFold()
    events = list(fold.feed("n", 5, start_line(1, 10.0) + end_line(1, 12.0)))
    assert [event for event, _ in events] == ["start", "end"]
    assert events[0][1].status == "running"
    record = events[1][1]
    assert (record.task_id, record.elapsed_s, record.increment_bytes, record.status) == (1, 2.0, 20, "finished")
    assert fold.unfinished() == []
    assert fold.skipped == 0


def test_lines_may_come_in_any_portions_of_whole_lines() -> None:
    lines = [start_line(1, 10.0), start_line(2, 10.5), end_line(2, 11.0), end_line(1, 12.0)]
    whole, portions = RecordFold(), RecordFold()
    at_once = list(whole.feed("n", 5, b"".join(lines)))
    assert [event for line in lines for event in portions.feed("n", 5, line)] == at_once


def test_a_task_that_runs_again_on_another_worker_is_another_attempt() -> None:
    fold = RecordFold()
    list(fold.feed("n", 5, start_line(1, 10.0)))
    (_, again), (_, ended) = fold.feed("n", 6, start_line(1, 11.0, pid=6) + end_line(1, 12.0))
    assert again.attempt == ended.attempt == 2
    assert [(record.pid, record.attempt) for record in fold.unfinished()] == [(5, 1)]
    assert fold.unfinished("n", 6) == []


def test_torn_and_foreign_lines_are_counted_and_cost_nothing_else() -> None:
    fold = RecordFold()
    lines = b"\xff\n" + start_line(1, 10.0) + b'{"event": "end"}\n{"event": "pause"}\n\n[]\n' + end_line(1, 12.0)
    ended = [record for event, record in fold.feed("n", 5, lines) if event == "end"]
    assert len(ended) == 1
    assert fold.skipped == 4


def test_a_start_with_a_wrong_value_is_skipped_with_its_end() -> None:
    fold = RecordFold()
    assert list(fold.feed("n", 5, start_line(1, float("nan")) + end_line(1, 12.0))) == []
    assert fold.skipped == 2


def test_an_unfinished_task_is_given_up_once() -> None:
    fold = RecordFold()
    list(fold.feed("n", 5, start_line(1, 10.0)))
    assert [record.task_id for record in fold.give_up("n", 5)] == [1]
    assert fold.give_up("n", 5) == []


def test_a_killed_task_has_its_last_reading_and_its_highest() -> None:
    running = replace(RECORD, status="running", end_s=None, peak_bytes=None, method=None)
    readings = [90.0, 100.6, 100.7, 100.8], [99999, 2000, 9000, 7000]
    record = killed(running, readings, "why")
    assert (record.status, record.reason, record.method) == ("killed", "why", "sampled")
    assert (record.last_bytes, record.peak_bytes, record.end_s) == (7000, 9000, 100.8)


def test_a_killed_task_without_a_reading_keeps_what_it_began_with() -> None:
    running = replace(RECORD, status="running", end_s=None, peak_bytes=None, method=None)
    record = killed(running, ([90.0], [99999]), "why")
    assert (record.last_bytes, record.peak_bytes, record.end_s) == (1000, 1000, None)
    unknown = killed(replace(running, base_bytes=None), ([], []), "why")
    assert (unknown.last_bytes, unknown.peak_bytes, unknown.method) == (None, None, None)
