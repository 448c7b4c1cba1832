from __future__ import annotations

import json
from types import SimpleNamespace

from runmem.store.records import record_from_line
from runmem.store.task_lines import LineWriter, TaskLines, in_order

TASK = SimpleNamespace(module="app", name="work", file='/a "b"/app.py', data_id=None)
NODE, PID = "n", 5


def start(task_id: int, start_s: float) -> bytes:
    return LineWriter(NODE, 1000).start(TASK, task_id, 77, start_s, 10)


def end(task_id: int, start_s: float, end_s: float, **values: object) -> bytes:
    found = {"base_bytes": 10, "peak_bytes": 30, "end_bytes": 20, "method": "hwm", **values}
    return LineWriter(NODE, 1000).end(TASK, task_id, 77, (start_s, end_s, 0.25), "finished", None, found)


def attempts(lines: list[bytes]) -> list[int]:
    return [json.loads(line)["attempt"] for line in lines]


def test_the_lines_of_a_worker_are_records() -> None:
    running, ended = record_from_line(start(3, 1.5)), record_from_line(end(3, 1.5, 2.5))
    assert (running.status, running.task_id, running.file, running.base_bytes) == ("running", 3, TASK.file, 10)
    assert (ended.status, ended.elapsed_s, ended.increment_bytes, ended.method) == ("finished", 1.0, 20, "hwm")
    assert ended.limit_bytes == 1000
    assert json.loads(end(3, 1.5, 2.5))["increment_bytes"] == 20


def test_what_was_not_measured_is_null() -> None:
    ended = record_from_line(end(3, 1.5, 2.5, base_bytes=None, method=None, reason="no /proc"))
    assert (ended.base_bytes, ended.increment_bytes, ended.method) == (None, None, None)
    assert ended.reason == "no /proc"


def test_what_a_probe_adds_stands_in_the_line() -> None:
    assert json.loads(end(3, 1.5, 2.5, gpu_bytes=7))["gpu_bytes"] == 7


def test_tasks_are_told_as_they_start_and_end() -> None:
    lines = TaskLines()
    assert [len(found) for found in lines.feed(NODE, PID, start(1, 1.0) + start(2, 1.0))] == [2, 0]
    assert lines.running == 2
    assert [len(found) for found in lines.feed(NODE, PID, end(2, 1.0, 2.0))] == [0, 1]
    assert lines.running == 1
    assert [record.task_id for record in lines.give_up(NODE, PID)] == [1]
    assert lines.running == 0


def test_each_task_counts_its_own_attempts() -> None:
    lines = TaskLines()
    for task_id in (1, 2, 12):
        started, ended = lines.feed(NODE, PID, start(task_id, 1.0) + end(task_id, 1.0, 2.0))
        assert attempts(started) == attempts(ended) == [1]
    started, ended = lines.feed(NODE, PID + 1, start(2, 3.0) + end(2, 3.0, 4.0))
    assert attempts(started) == attempts(ended) == [2]


def test_an_attempt_keeps_its_number_when_another_one_began_meanwhile() -> None:
    lines = TaskLines()
    lines.feed(NODE, PID, start(1, 1.0))
    lines.feed(NODE, PID + 1, start(1, 2.0))
    _, ended = lines.feed(NODE, PID, end(1, 1.0, 3.0))
    assert attempts(ended) == [1]
    assert [record.attempt for record in lines.give_up(NODE, PID + 1)] == [2]


def test_torn_and_foreign_lines_are_counted() -> None:
    lines = TaskLines()
    lines.feed(NODE, PID, b"\xff\x00\n\n" + start(1, 1.0)[9:] + start(1, 1.0))
    assert lines.skipped == 2
    assert lines.running == 1


def test_attempts_are_numbered_as_they_happened_when_both_are_read_at_once() -> None:
    again = start(8, 1.0) + end(8, 1.0, 4.0) + start(9, 4.5) + end(9, 4.5, 5.0)  # of a worker that ran before, too
    killed = start(9, 2.0)
    for chunks in ({1: again, 2: killed}, {1: killed, 2: again}):
        lines = TaskLines()
        ended = [line for pid, data in in_order(chunks) for line in lines.feed(NODE, pid, data)[1]]
        assert attempts(ended) == [1, 2]
        assert [record.attempt for record in lines.give_up()] == [1]


def test_the_lines_of_workers_with_nothing_in_common_stay_in_one_piece() -> None:
    chunks = {1: start(1, 1.0) + end(1, 1.0, 2.0), 2: start(2, 0.5) + b"torn"}
    assert in_order(chunks) == list(chunks.items())


def test_lines_may_come_in_any_portions_of_whole_lines() -> None:
    written = [start(1, 10.0), start(2, 10.5), end(2, 10.5, 11.0), end(1, 10.0, 12.0)]
    whole, portions = TaskLines(), TaskLines()
    at_once = whole.feed(NODE, PID, b"".join(written))
    fed = [portions.feed(NODE, PID, line) for line in written]
    assert ([line for started, _ in fed for line in started], [line for _, ended in fed for line in ended]) == at_once


def test_an_unfinished_task_is_given_up_once() -> None:
    lines = TaskLines()
    lines.feed(NODE, PID, start(1, 10.0))
    assert [record.task_id for record in lines.give_up(NODE, PID)] == [1]
    assert lines.give_up(NODE, PID) == []


def test_a_task_that_ran_again_for_a_lost_result_need_not_be_given_up() -> None:
    lines = TaskLines()
    lines.feed(NODE, PID, start(1, 1.0) + end(1, 1.0, 2.0) + start(1, 3.0) + start(2, 3.0))
    assert [record.task_id for record in lines.give_up(also_repeated=False)] == [2]


def test_the_data_id_of_a_task_that_was_made_for_one_call_is_in_both_lines_and_in_no_other_call():
    writer = LineWriter(NODE, 1000)
    task = SimpleNamespace(**{**vars(TASK), "data_id": "{visit: 1, name: 'a \"b\"'}"})
    lines = [
        writer.start(task, 1, 77, 10.0, 10),
        writer.end(task, 1, 77, (10.0, 11.0, 0.25), "finished", None, {"more": 1}),
        writer.start(TASK, 2, 77, 10.0, 10),
    ]
    assert [record_from_line(line).data_id for line in lines] == [task.data_id, task.data_id, None]
    assert json.loads(lines[1])["more"] == 1


def test_the_same_values_again_are_those_of_the_task_and_of_the_call_that_ended() -> None:
    writer = LineWriter(NODE, 1000)
    values = {"base_bytes": 10, "peak_bytes": 30, "end_bytes": 20, "method": "hwm"}
    other = SimpleNamespace(**{**vars(TASK), "name": "other"})
    times = 10.0, 11.0, 0.25
    lines = [
        writer.end(TASK, 1, 77, times, "finished", None, values),
        writer.end(TASK, 2, 77, times, "failed", "KeyError", values),
        writer.end(other, 3, 77, times, "finished", None, values),
        writer.end(other, 4, 77, times, "finished", None, {**values, "peak_bytes": None}),
    ]
    records = [record_from_line(line) for line in lines]
    found = [(record.task_id, record.name, record.status, record.exception, record.peak_bytes) for record in records]
    assert found == [
        (1, TASK.name, "finished", None, 30),
        (2, TASK.name, "failed", "KeyError", 30),
        (3, "other", "finished", None, 30),
        (4, "other", "finished", None, None),
    ]
    assert set(values) == {"base_bytes", "peak_bytes", "end_bytes", "method"}
