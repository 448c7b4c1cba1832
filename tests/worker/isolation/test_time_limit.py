from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from runmem.worker.isolation.time_limit import NoTimeLimits, TimeLimits, give_up, limited_calls
from runmem.worker.isolation.watchdog import stack_of_thread


@pytest.fixture
def limits(tmp_path: Path) -> TimeLimits:
    return TimeLimits(tmp_path / "limits", tmp_path / "stacks")


def test_a_call_is_listed_while_it_runs(limits: TimeLimits, tmp_path: Path) -> None:
    assert limited_calls(tmp_path / "limits") == []
    for task_id in (3, 4):
        with limits.limited(task_id, 2.5):
            (call,) = limited_calls(tmp_path / "limits")
            assert (call.task_id, call.limit_s, call.thread) == (task_id, 2.5, threading.get_ident())
        assert limited_calls(tmp_path / "limits") == []


def test_threads_have_slots_of_their_own(limits: TimeLimits, tmp_path: Path) -> None:
    begun, end = threading.Barrier(4), threading.Event()

    def run(task_id: int) -> None:
        with limits.limited(task_id, 10):
            begun.wait()
            end.wait()

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    begun.wait()
    found = {call.task_id: call.thread for call in limited_calls(tmp_path / "limits")}
    end.set()
    for thread in threads:
        thread.join()
    assert found == {number: thread.ident for number, thread in enumerate(threads, 1)}
    assert limited_calls(tmp_path / "limits") == []


def test_the_slot_of_a_thread_that_has_ended_is_used_again(limits: TimeLimits, tmp_path: Path) -> None:
    found = []

    def run(task_id: int) -> None:
        with limits.limited(task_id, 10):
            found.extend(limited_calls(tmp_path / "limits"))

    for number in range(1, 301):  # more than there are slots
        thread = threading.Thread(target=run, args=(number,))
        thread.start()
        thread.join()
    assert [call.task_id for call in found] == list(range(1, 301))


def test_a_call_that_was_given_up_does_not_end_before_its_process_does(limits: TimeLimits, tmp_path: Path) -> None:
    ended = threading.Event()
    begun = threading.Event()

    def run() -> None:
        with limits.limited(1, 0.1):
            begun.set()
            ended.wait(0.2)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    begun.wait()
    (call,) = limited_calls(tmp_path / "limits")
    assert give_up(tmp_path / "limits", call)
    assert not give_up(tmp_path / "limits", call)
    assert not ended.wait(0.6)


def test_a_call_counts_until_its_result_is_delivered(tmp_path: Path) -> None:
    steps = []
    limits = TimeLimits(tmp_path / "limits", tmp_path / "stacks", later=steps.append)
    with limits.limited(1, 5):
        pass
    assert [call.task_id for call in limited_calls(tmp_path / "limits")] == [1]
    with limits.limited(2, 5):
        steps[0]()  # the thread is at another call by now
        assert [call.task_id for call in limited_calls(tmp_path / "limits")] == [2]
    steps[1]()
    assert limited_calls(tmp_path / "limits") == []


def test_a_call_that_has_ended_cannot_be_given_up(limits: TimeLimits, tmp_path: Path) -> None:
    with limits.limited(1, 5):
        (call,) = limited_calls(tmp_path / "limits")
    assert not give_up(tmp_path / "limits", call)


def test_limits_that_cannot_be_written_raise_on_entering(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        TimeLimits(tmp_path / "none" / "limits", tmp_path / "stacks").limited(1, 5)
    with pytest.raises(OSError, match="no nanny"):
        NoTimeLimits(tmp_path / "limits", tmp_path / "stacks").limited(1, 5)


PACKAGE = Path(sys.modules[TimeLimits.__module__].__file__).parents[2]
STACKS = f"""\
Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/selectors.py", line 468 in select

Current thread 0x00007f0000000002 [worker] (most recent call first):
  File "/app/deep.py", line 3 in inner
  File "/app/app.py", line 12 in work
  File "{PACKAGE}/graph/task.py", line 87 in run
  File "/usr/lib/threading.py", line 982 in run
"""


def test_the_stack_of_a_task_ends_where_runmem_begins() -> None:
    assert stack_of_thread(STACKS, 0x7F0000000002) == (
        '  File "/app/app.py", line 12, in work\n  File "/app/deep.py", line 3, in inner'
    )
    assert stack_of_thread(STACKS, 0x7F0000000001) is None  # it runs no task
    assert stack_of_thread(STACKS, 5) is None
    assert stack_of_thread("", os.getpid()) is None
