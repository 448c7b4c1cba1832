from __future__ import annotations

from typing import Any

import pytest

from runmem.events import TaskRecord, TaskWaitedFor
from runmem.execution.call_state import CallState
from runmem.execution.stragglers import Stragglers
from runmem.graph.call import Execution


def call(task_id: int, *needs: Execution, done: bool = False) -> Execution:
    return Execution(task_id, f"f{task_id}", 1, CallState(after=needs, done=done))


def record(task_id: int, start_s: float) -> TaskRecord:
    return TaskRecord(task_id, "m", f"f{task_id}", "m.py", "n1", 100 + task_id, 1, start_s)


@pytest.fixture
def told() -> list[TaskWaitedFor]:
    return []


def stragglers(told: list[TaskWaitedFor], records: dict[int, TaskRecord], quiet_s: float = 60) -> Stragglers:
    made = Stragglers(told.append, lambda: 1000.0, records.get, quiet_s)
    made.moved(0)
    return made


def test_the_call_that_runs_longest_is_named_once_when_nothing_has_happened_for_a_minute(told: Any) -> None:
    calls = [call(1), call(2)]
    calls.append(call(3, calls[0]))  # waits for the first
    made = stragglers(told, {1: record(1, 930.0), 2: record(2, 910.0)})
    made.look(calls, 2, now_s=59)
    assert told == []
    made.look(calls, 2, now_s=61)
    assert told == [TaskWaitedFor(2, "f2", 90.0, "n1", 102)]
    made.look(calls, 2, now_s=122)
    assert len(told) == 1
    made.look(calls[:1], 2, now_s=183)
    assert told[1:] == [TaskWaitedFor(1, "f1", 70.0, "n1", 101)]


def test_calls_that_wait_for_a_worker_are_something_else_to_do(told: Any) -> None:
    made = stragglers(told, {})
    made.look([call(1), call(2), call(3)], 2, now_s=100)
    assert told == []


def test_a_call_that_has_ended_or_was_made_meanwhile_begins_another_minute(told: Any) -> None:
    made = stragglers(told, {})
    made.moved(50)
    made.look([call(1)], 2, now_s=100)
    assert told == []
    made.look([call(1)], 2, now_s=111)
    assert told == [TaskWaitedFor(1, "f1")]  # not measured: where it runs is not known


def test_nothing_is_waited_for_when_all_has_ended(told: Any) -> None:
    made = stragglers(told, {})
    made.look([], 2, now_s=100)
    assert told == []
