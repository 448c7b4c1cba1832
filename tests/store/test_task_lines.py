from __future__ import annotations

import json
from types import SimpleNamespace

from runmem.store.line_writer import LineWriter
from runmem.store.records import record_from_line
from runmem.store.task_lines import NewLines, TaskLines

TASK = SimpleNamespace(module="app", name="work", file='/a "b"/app.py', data_id=None)
NODE, PID = "n", 5


def start(task_id: int, start_s: float) -> bytes:
    return LineWriter(NODE, 1000, PID).start(TASK, task_id, 77, start_s, 10)


def end(task_id: int, start_s: float, end_s: float, **values: object) -> bytes:
    found = {"base_bytes": 10, "peak_bytes": 30, "end_bytes": 20, "method": "hwm", **values}
    return LineWriter(NODE, 1000, PID).end(TASK, task_id, 77, (start_s, end_s, 0.25), "finished", None, found)


def calls(*task_ids: int) -> bytes:
    """The lines of calls that follow each other at once, each a second long; call n starts at second n."""
    return b"".join(start(number, number) + end(number, number, number + 1) for number in task_ids)


def records(fed: NewLines) -> list[dict[str, object]]:
    return [{"attempt": 1, **json.loads(line)} for line in b"".join(fed.records).splitlines()]


def attempts(fed: NewLines) -> list[object]:
    return [record["attempt"] for record in records(fed)]


def test_a_started_call_has_the_record_of_its_line() -> None:
    lines = TaskLines()
    fed = lines.feed(NODE, {PID: calls(1, 2, 3) + start(4, 4.0)})
    assert ([record["task_id"] for record in records(fed)], attempts(fed)) == ([1, 2, 3], [1, 1, 1])
    assert lines.running == 1
    (running,) = lines.pop_unfinished(NODE, PID)
    assert (running.task_id, running.attempt, running.status) == (4, 1, "running")
    assert (running.start_s, running.base_bytes, running.peak_bytes, running.end_s) == (4.0, 10, None, None)
    assert (running.name, running.file, running.thread, running.limit_bytes) == (TASK.name, TASK.file, 77, 1000)
    assert lines.running == 0


def test_calls_that_run_again_have_second_attempts() -> None:
    lines = TaskLines()
    lines.feed(NODE, {PID: calls(1, 2) + start(3, 3.0)})
    fed = lines.feed(NODE, {PID + 1: calls(2, 3, 4)})
    assert attempts(fed) == [2, 2, 1]
    assert [record.attempt for record in lines.pop_unfinished(NODE, PID)] == [1]
    assert lines.running == 0


def test_calls_that_run_again_and_are_read_at_the_same_time_are_numbered_as_they_happened() -> None:
    first, second = calls(1, 2) + start(3, 3.0), start(3, 20.0) + end(3, 20.0, 21.0)
    for chunks in ({1: first, 2: second}, {2: second, 1: first}):
        lines = TaskLines()
        assert sorted((record["task_id"], record["attempt"]) for record in records(lines.feed(NODE, chunks))) == [
            (1, 1), (2, 1), (3, 2),
        ]  # fmt: skip
        assert [(record.task_id, record.attempt) for record in lines.pop_unfinished()] == [(3, 1)]


def test_a_running_call_keeps_its_attempt_if_another_worker_repeats_it() -> None:
    left = start(1, 1.0) + end(1, 1.0, 9.0) + start(2, 9.0)
    again = start(1, 3.0) + end(1, 3.0, 4.0) + calls(7)
    for chunks in ({1: left, 2: again}, {2: again, 1: left}):
        lines = TaskLines()
        found = [(entry["task_id"], entry["start_s"], entry["attempt"]) for entry in records(lines.feed(NODE, chunks))]
        assert sorted(found) == [(1, 1.0, 1), (1, 3.0, 2), (7, 7.0, 1)]
        assert [record.task_id for record in lines.pop_unfinished()] == [2]


def test_an_end_line_that_was_lost_leaves_its_task_unfinished() -> None:
    lines = TaskLines()
    fed = lines.feed(NODE, {PID: calls(1) + start(2, 2.0) + calls(3, 4)})
    assert [record["task_id"] for record in records(fed)] == [1, 3, 4]
    assert [record.task_id for record in lines.pop_unfinished()] == [2]


def test_a_start_line_that_was_lost_leaves_the_record_as_it_is() -> None:
    lines = TaskLines()
    fed = lines.feed(NODE, {PID: end(1, 1.0, 2.0)})
    assert (attempts(fed), lines.running, lines.ended, lines.skipped) == ([1], 0, 1, 0)


def test_lines_of_several_threads_may_take_turns() -> None:
    lines = TaskLines()
    written = [start(1, 1.0), start(11, 1.0), end(1, 1.0, 2.0), end(11, 1.0, 2.0), calls(2), calls(12)]
    fed = lines.feed(NODE, {PID: b"".join(written)})
    assert ([record["task_id"] for record in records(fed)], lines.running) == ([1, 11, 2, 12], 0)


def test_started_attempts_are_returned() -> None:
    fed = TaskLines().feed(NODE, {PID: calls(1, 2) + start(3, 3.0)})
    found = [begun.record() for begun in fed.started]
    assert [(record.task_id, record.start_s, record.base_bytes) for record in found] == [
        (1, 1.0, 10), (2, 2.0, 10), (3, 3.0, 10),
    ]  # fmt: skip


def test_lines_with_spaces_as_an_earlier_version_wrote_them_are_read_too() -> None:
    written = [json.dumps(json.loads(line)) for line in (calls(1) + start(2, 2.0)).splitlines()]
    written[1] = written[1].replace("{", '{"event": "end", ', 1)
    lines = TaskLines()
    fed = lines.feed(NODE, {PID: "\n".join([*written, ""]).encode()})
    again = lines.feed(NODE, {PID + 1: written[0].encode() + b"\n" + written[1].encode() + b"\n"})
    assert (attempts(fed), attempts(again), lines.skipped) == ([1], [2], 0)
    assert [record.task_id for record in lines.pop_unfinished()] == [2]


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


def test_fields_of_a_probe_are_in_the_line() -> None:
    assert json.loads(end(3, 1.5, 2.5, gpu_bytes=7))["gpu_bytes"] == 7


def test_task_lines_report_starts_and_ends() -> None:
    lines = TaskLines()
    fed = lines.feed(NODE, {PID: start(1, 1.0) + start(2, 1.0)})
    assert (len(fed.started), len(fed.records), lines.running) == (2, 0, 2)
    fed = lines.feed(NODE, {PID: end(2, 1.0, 2.0)})
    assert (len(fed.started), len(fed.records)) == (0, 1)
    assert lines.running == 1
    assert [record.task_id for record in lines.pop_unfinished(NODE, PID)] == [1]
    assert lines.running == 0


def test_each_task_counts_its_own_attempts() -> None:
    lines = TaskLines()
    for task_id in (1, 2, 12):
        fed = lines.feed(NODE, {PID: start(task_id, 1.0) + end(task_id, 1.0, 2.0)})
        assert [begun.attempt for begun in fed.started] == attempts(fed) == [1]
    fed = lines.feed(NODE, {PID + 1: start(2, 3.0) + end(2, 3.0, 4.0)})
    assert [begun.attempt for begun in fed.started] == attempts(fed) == [2]


def test_an_attempt_keeps_its_number_when_another_one_began_meanwhile() -> None:
    lines = TaskLines()
    lines.feed(NODE, {PID: start(1, 1.0)})
    lines.feed(NODE, {PID + 1: start(1, 2.0)})
    assert attempts(lines.feed(NODE, {PID: end(1, 1.0, 3.0)})) == [1]
    assert [record.attempt for record in lines.pop_unfinished(NODE, PID + 1)] == [2]


def test_torn_and_foreign_lines_are_counted() -> None:
    lines = TaskLines()
    lines.feed(NODE, {PID: b"\xff\x00\n\n" + start(1, 1.0)[9:] + start(1, 1.0)})
    assert lines.skipped == 2
    assert lines.running == 1


def test_attempts_are_numbered_as_they_happened_when_both_are_read_at_once() -> None:
    again = start(8, 1.0) + end(8, 1.0, 4.0) + start(9, 4.5) + end(9, 4.5, 5.0)  # of a worker that ran before, too
    killed = start(9, 2.0)
    for chunks in ({1: again, 2: killed}, {1: killed, 2: again}):
        lines = TaskLines()
        assert attempts(lines.feed(NODE, chunks)) == [1, 2]
        assert [record.attempt for record in lines.pop_unfinished()] == [1]


def test_lines_may_come_in_any_portions_of_whole_lines() -> None:
    written = [
        start(1, 10.0),
        start(2, 10.5),
        end(2, 10.5, 11.0),
        end(1, 10.0, 12.0),
        *split(calls(3, 4, 5)),
    ]
    whole, portions = TaskLines(), TaskLines()
    at_once = records(whole.feed(NODE, {PID: b"".join(written)}))
    assert [record for line in written for record in records(portions.feed(NODE, {PID: line}))] == at_once
    assert [record["task_id"] for record in at_once] == [2, 1, 3, 4, 5]
    assert whole.running == portions.running == 0


def split(lines: bytes) -> list[bytes]:
    return lines.splitlines(keepends=True)


def test_an_unfinished_task_is_returned_once() -> None:
    lines = TaskLines()
    lines.feed(NODE, {PID: start(1, 10.0)})
    assert [record.task_id for record in lines.pop_unfinished(NODE, PID)] == [1]
    assert lines.pop_unfinished(NODE, PID) == []


def test_a_task_repeated_for_a_lost_result_may_be_omitted() -> None:
    lines = TaskLines()
    lines.feed(NODE, {PID: start(1, 1.0) + end(1, 1.0, 2.0) + start(1, 3.0) + start(2, 3.0)})
    assert [record.task_id for record in lines.pop_unfinished(include_repeated=False)] == [2]


def test_the_data_id_of_a_task_that_was_made_for_one_call_is_in_both_lines_and_in_no_other_call():
    writer = LineWriter(NODE, 1000, PID)
    task = SimpleNamespace(**{**vars(TASK), "data_id": "{visit: 1, name: 'a \"b\"'}"})
    lines = [
        writer.start(task, 1, 77, 10.0, 10),
        writer.end(task, 1, 77, (10.0, 11.0, 0.25), "finished", None, {"more": 1}),
        writer.start(TASK, 2, 77, 10.0, 10),
    ]
    assert [record_from_line(line).data_id for line in lines] == [task.data_id, task.data_id, None]
    assert json.loads(lines[1])["more"] == 1


def test_the_same_values_again_are_those_of_the_task_and_of_the_call_that_ended() -> None:
    writer = LineWriter(NODE, 1000, PID)
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


def test_files_of_the_program_are_named_from_its_folder_on() -> None:
    for folder in ("/home/me/study", "/home/me/study/"):
        writer = LineWriter(NODE, None, PID, folder)
        for file, named in (("/home/me/study/src/a.py", "src/a.py"), ("/home/me/study2/a.py", "/home/me/study2/a.py")):
            task = SimpleNamespace(module="a", name="f", file=file, data_id=None)
            assert json.loads(writer.start(task, 1, 7, 1.0, 1))["file"] == named


def test_calls_that_overlap_in_a_process_are_shared() -> None:
    lines = TaskLines()
    lines.feed(NODE, {PID: start(1, 1.0) + start(2, 2.0) + end(2, 2.0, 3.0), PID + 1: start(3, 1.0)})
    lines.feed(NODE, {PID + 1: end(3, 1.0, 4.0) + start(4, 4.0)})
    assert {record.task_id: record.shared for record in lines.pop_unfinished()} == {1: True, 4: False}
