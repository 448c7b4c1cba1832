"""Calls of this process that are cancelled while they run."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from runmem.worker.cancellation import (
    CallCancelled,
    cancel_calls,
    cancelled_calls,
    interruptible,
    is_interrupted,
    raise_if_cancelled,
    running,
)

WORKER = SimpleNamespace(state=SimpleNamespace(tasks={"begun": SimpleNamespace(state="executing")}))


def cancel(run_id: str, task_id: int) -> None:
    cancel_calls(run_id, [task_id], [], WORKER)


def in_thread(function: Any) -> Any:
    """Start a function in a thread; return a function that waits for its outcome."""
    outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def target() -> None:
        try:
            outcomes.put(function())
        except BaseException as error:
            outcomes.put(error)

    threading.Thread(target=target, daemon=True).start()
    return lambda: outcomes.get(timeout=60)


def test_the_dask_tasks_that_have_begun_are_returned() -> None:
    assert cancel_calls("begun", [1, 2], ["begun", "waiting"], WORKER) == ["begun"]
    assert cancelled_calls["begun"] == {1, 2}


def test_a_loop_is_interrupted_and_the_thread_goes_on() -> None:
    began = threading.Event()

    def call() -> Any:
        with running("loop", 1):
            try:
                with interruptible():
                    began.set()
                    while True:
                        with suppress(Exception):
                            time.sleep(0)
            except CallCancelled:
                assert is_interrupted()
        assert not is_interrupted()
        return sum(range(200_000))

    outcome = in_thread(call)
    assert began.wait(60)
    cancel("loop", 2)  # another call
    cancel("another run", 1)
    cancel("loop", 1)
    cancel("loop", 1)  # it is raised once
    assert outcome() == sum(range(200_000))


def test_nothing_is_raised_outside_the_function() -> None:
    """A call that is cancelled before its function begins does not begin it; after its end nothing happens."""
    with running("outside", 1):
        cancel("outside", 1)
        assert not is_interrupted()
        with pytest.raises(CallCancelled), interruptible():
            pytest.fail("the function has begun")
        assert is_interrupted()
    with running("outside", 2):
        with interruptible():
            value = 5
        cancel("outside", 2)
        assert sum(range(100_000)) > 0
        assert value == 5
        assert not is_interrupted()
        with pytest.raises(CallCancelled):
            raise_if_cancelled()
    raise_if_cancelled()
    with interruptible():  # outside of any call, as in the program's own process
        cancel("outside", 2)


def test_a_call_in_a_call_leaves_the_outer_one_as_it_was() -> None:
    with running("nested", 1):
        with running("nested", 2):
            cancel("nested", 2)
            with pytest.raises(CallCancelled):
                raise_if_cancelled()
        raise_if_cancelled()


@pytest.mark.slow
def test_calls_that_are_cancelled_at_any_moment_end_one_way_or_the_other() -> None:
    """Neither the code around a function nor the next call is ever interrupted."""
    calls = 3_000
    at = [0]
    ended = threading.Event()
    before_s = sys.getswitchinterval()

    def run_all() -> Any:
        ends = {"result": 0, "cancelled": 0}
        for number in range(calls):
            with running("race", number):
                at[0] = number
                try:
                    with interruptible():
                        for _ in range(100 * (number % 40)):
                            pass
                    ends["result"] += 1
                except CallCancelled:
                    ends["cancelled"] += 1
                sum([0] * 50)  # runmem's own code
        ended.set()
        return ends

    sys.setswitchinterval(1e-6)
    try:
        outcome = in_thread(run_all)
        while not ended.is_set():
            cancel("race", at[0])
        ends = outcome()
    finally:
        sys.setswitchinterval(before_s)
    assert sum(ends.values()) == calls
    assert ends["result"]
    assert ends["cancelled"]


CANCELLED_THEN_TRACED = """
import sys
from runmem.worker.cancellation import CallCancelled, cancel_calls, interruptible, running

with running("r", 1):
    try:
        with interruptible():
            cancel_calls("r", [1], [], None)
    except CallCancelled:
        print("cancelled")
sys.settrace(lambda *event: None)
(lambda: print("traced"))()
"""


def test_after_a_cancelled_call_functions_can_be_traced() -> None:
    """Python 3.11 traces no function to its end after an exception for a thread is withdrawn and none is raised."""
    ran = subprocess.run(
        [sys.executable, "-c", CANCELLED_THEN_TRACED], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.split() == ["cancelled", "traced"]
