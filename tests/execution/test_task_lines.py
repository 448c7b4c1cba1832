from __future__ import annotations

import json

import pytest

from runmem.execution.task_lines import LineWriter, TaskLines
from runmem.store.records import record_from_line


class Task:
    module, name, file = "app", "f", "app.py"


WRITER = LineWriter("n1", 1000)


def start(task_id: int) -> bytes:
    return WRITER.start(Task, task_id, 7, 100.0 + task_id, 50)


def end(task_id: int, **values) -> bytes:
    times = 100.0 + task_id, 200.0 + task_id, 0.5
    return WRITER.end(Task, task_id, 7, times, "finished", None, {"base_bytes": 50, "peak_bytes": 80, **values})


@pytest.fixture
def lines() -> TaskLines:
    return TaskLines()


def test_the_line_of_an_ended_task_is_its_whole_record(lines):
    _, (line,) = lines.feed("n1", 1, start(12) + end(12))
    record = record_from_line(line)
    assert (record.task_id, record.attempt, record.status) == (12, 1, "finished")
    assert (record.start_s, record.end_s, record.cpu_s) == (112.0, 212.0, 0.5)
    assert (record.base_bytes, record.peak_bytes, record.end_bytes, record.limit_bytes) == (50, 80, None, 1000)
    assert json.loads(line)["increment_bytes"] == 30


def test_what_a_probe_adds_is_kept(lines):
    _, (line,) = lines.feed("n1", 1, start(1) + end(1, bytes_read=5))
    assert json.loads(line)["bytes_read"] == 5


def test_tasks_that_run_are_told_apart(lines):
    lines.feed("n1", 1, start(1) + start(2) + end(1) + start(3))
    assert lines.running == 2
    assert [record.task_id for record in lines.give_up("n1", 1)] == [2, 3]
    assert lines.running == 0


def test_only_the_tasks_of_the_process_that_is_gone_are_given_up(lines):
    lines.feed("n1", 1, start(1))
    lines.feed("n2", 1, start(2))
    assert [record.task_id for record in lines.give_up("n2", 1)] == [2]
    assert [record.task_id for record in lines.give_up()] == [1]


def test_a_task_that_runs_again_has_the_next_attempt_and_others_have_their_first(lines):
    lines.feed("n1", 1, start(1) + start(2) + end(2))
    lines.give_up("n1", 1)
    (started,), (ended,) = lines.feed("n1", 9, start(1) + end(1))
    assert json.loads(started)["attempt"] == 2
    assert json.loads(ended)["attempt"] == 2
    _, (other,) = lines.feed("n1", 9, start(3) + end(3))
    assert json.loads(other)["attempt"] == 1


def test_foreign_lines_are_skipped_and_counted(lines):
    started, ended = lines.feed("n1", 1, b"\xff\x00\n\n{}\n" + start(1) + b"torn\n")
    assert (len(started), ended, lines.skipped) == (1, [], 3)
