"""What a task tells of its own record."""

from __future__ import annotations

import threading

from runmem.execution.session import session
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task
from runmem.store.run import read_run
from runmem.worker.record_fields import set_record_fields, take_record_fields


def test_fields_are_taken_once_and_belong_to_their_thread():
    take_record_fields()  # of tests that ran in this process before
    set_record_fields(dataId="visit=1")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(take_record_fields()))
    thread.start()
    thread.join()
    assert seen == [{}]
    assert take_record_fields() == {"dataId": "visit=1"}
    assert take_record_fields() == {}


def test_fields_of_a_call_that_was_not_measured_are_not_those_of_the_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @task(returns=1)
    def count(visit, status=None):
        if status is not None:
            set_record_fields(status=status)
        return visit

    with session(sequential=True):
        assert wait_on(count(1, "failed")) == 1
    with session(sequential=True, python_memory_profile=True) as run:
        assert wait_on(count(2)) == 2
    (record,) = read_run(run.directory.root).records
    assert record.status == "finished"


def test_a_task_sets_status_peak_and_fields_of_its_own_record_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @task(returns=1)
    def count(visit):
        if visit == 2:
            set_record_fields(dataId={"visit": 2}, status="failed", exception="ValueError", peak_bytes=12345)
        return visit

    with session(workers=1, python_memory_profile=True) as run:
        assert wait_on([count(n) for n in (1, 2, 3)]) == [1, 2, 3]
    records = {record.task_id: record for record in read_run(run.directory.root).records}
    assert [records[n].status for n in (1, 2, 3)] == ["finished", "failed", "finished"]
    assert records[2].exception == "ValueError"
    assert records[2].peak_bytes == 12345
    assert records[1].peak_bytes > 10**6 < records[3].peak_bytes
    assert run.directory.tasks_jsonl.read_text().count('"dataId":{"visit":2}') == 1
