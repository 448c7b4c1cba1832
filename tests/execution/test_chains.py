"""Short calls follow each other at once: what the records tell when one of them ends otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runmem import task, wait_on
from runmem.store.run import read_run


def _define() -> SimpleNamespace:
    @task(returns=1)
    def die_once(number, bad, marker):
        if number == bad and not os.path.exists(marker):
            open(marker, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @task(returns=1)
    def fails_at(number, bad):
        if number == bad:
            raise KeyError(number)
        return number

    @task(returns=1)
    def same(number):
        return number

    return SimpleNamespace(**locals())


tasks = _define()
CALLS = 40


def test_the_call_that_killed_its_worker_is_named_and_those_after_it_never_began(
    session: Callable[..., Any], tmp_path: Path
) -> None:
    bad = CALLS // 2
    with session(workers=1) as run:
        wait_on([tasks.die_once(i, -1, "") for i in range(200)])  # known to be short: calls travel together
        futures = [tasks.die_once(i, bad, str(tmp_path / "marker")) for i in range(CALLS)]
        assert wait_on(futures) == list(range(CALLS))
    records = [record for record in read_run(run.directory.root).records if record.task_id > 200]
    killed = [(record.task_id, record.attempt) for record in records if record.status == "killed"]
    assert killed == [(201 + bad, 1)]
    assert all(record.name.endswith("die_once") and record.base_bytes for record in records)
    finished = [(record.task_id, record.attempt) for record in records if record.status == "finished"]
    last = {number: max(attempt for other, attempt in finished if other == number) for number, _ in finished}
    assert sorted(last) == [201 + i for i in range(CALLS)]
    assert last[201 + bad] == 2
    assert {last[201 + i] for i in range(bad + 1, CALLS)} == {1}


def test_calls_that_cannot_begin_leave_no_record(session: Callable[..., Any]) -> None:
    with session(workers=1) as run:
        wait_on([tasks.same(tasks.fails_at(i, -1)) for i in range(200)])
        broken = tasks.fails_at(0, 0)
        futures = [tasks.same(broken if i in (3, 4, 7) else i) for i in range(8)]
        for i, future in enumerate(futures):
            if i in (3, 4, 7):
                with pytest.raises(KeyError):
                    wait_on(future)
            else:
                assert wait_on(future) == i
    records = read_run(run.directory.root).records
    last = [record for record in records if record.task_id > 401]
    assert {record.task_id - 402 for record in last} == {0, 1, 2, 5, 6}
    assert {record.status for record in last} == {"finished"}


def test_chains_of_two_tasks_have_a_record_each(session: Callable[..., Any]) -> None:
    with session(workers=2) as run:
        value: Any = 0
        for _ in range(300):
            value = tasks.same(tasks.fails_at(value, -1))
        assert wait_on(value) == 0
    records = read_run(run.directory.root).records
    assert sorted(record.task_id for record in records) == list(range(1, 601))
    names = {record.task_id % 2: record.name.rpartition(".")[2] for record in records}
    assert names == {1: "fails_at", 0: "same"}
    assert {(record.attempt, record.status) for record in records} == {(1, "finished")}
