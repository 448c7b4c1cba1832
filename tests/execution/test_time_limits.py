"""Calls whose time is up: what the program is told, what is recorded, and that all else is right."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from runmem import TaskTimeoutError, task, wait_on
from runmem.store.run import read_run


def _define() -> SimpleNamespace:
    @task(returns=1, time_out=1)
    def sleep(seconds):
        time.sleep(seconds)
        return seconds

    @task(returns=1, time_out=1)
    def hold_the_interpreter():
        return re.match(r"(a+)+$", "a" * 40 + "b")

    @task(returns=1, time_out=1)
    def stop_itself():
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)

    @task(returns=1, time_out=1)
    def wait_for_a_child(path):
        child = subprocess.Popen(["sleep", "300"])
        Path(path).write_text(str(child.pid))
        return child.wait()

    @task(returns=1)
    def double(x):
        return 2 * x

    @task(returns=1, time_out=0)
    def unlimited():
        time.sleep(2.5)
        return "unlimited"

    return SimpleNamespace(**locals())


tasks = _define()


def _timed_out(future: Any) -> TaskTimeoutError:
    with pytest.raises(TaskTimeoutError) as raised:
        wait_on(future)
    return raised.value


def test_calls_whose_time_is_up_fail_with_their_stack_and_nothing_else_does(
    session: Callable[..., Any], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    child = tmp_path / "child"
    with session() as run:
        quick = [tasks.double(tasks.sleep(0.001 * number)) for number in range(20)]
        late = {
            "sleep": tasks.sleep(60),
            "hold_the_interpreter": tasks.hold_the_interpreter(),
            "stop_itself": tasks.stop_itself(),
            "wait_for_a_child": tasks.wait_for_a_child(child),
        }
        dependent = tasks.double(tasks.double(late["sleep"]))
        for name, future in late.items():
            error = _timed_out(future)
            assert f"{name} (call {error.task_id}): exceeded its time limit of 1 s. It was running on node" in str(
                error
            )
            assert f'{__file__}", line' in error.stack, name
            assert f"in {name}" in error.stack
            assert "runmem/execution" not in error.stack
            assert error.limit_s == 1
        assert _timed_out(dependent).task_id == _timed_out(late["sleep"]).task_id
        assert wait_on(quick) == [2 * 0.001 * number for number in range(20)]
    records = read_run(run.directory.root).records
    killed = {record.name.split(".")[-1]: record for record in records if record.stack}
    assert killed.keys() == late.keys()
    for name, record in killed.items():
        assert (record.status, record.reason, record.attempt) == ("killed", "exceeded its time limit of 1 s", 1)
        assert f"in {name}" in record.stack
    assert {record.status for record in records} == {"finished", "killed"}
    eventually(lambda: _has_ended(int(child.read_text())))


def _has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_limit_of_the_run_counts_where_the_task_does_not_say(session: Callable[..., Any]) -> None:
    @task(returns=1)
    def sleep(seconds):
        time.sleep(seconds)
        return seconds

    with session(python_memory_profile=False, task_timeout=1.5) as run:
        free, late = tasks.unlimited(), sleep(60)
        error = _timed_out(late)
        assert (error.limit_s, error.name) == (1.5, sleep.name)
        assert wait_on(free) == "unlimited"
        assert wait_on([sleep(0.01 * number) for number in range(5)]) == [0.01 * number for number in range(5)]
    assert run.settings.task_timeout_s == 1.5


def test_a_time_that_nobody_waited_for_is_told_at_the_end(session: Callable[..., Any]) -> None:
    with pytest.raises(TaskTimeoutError, match="exceeded its time limit of 1 s"), session(python_memory_profile=False):
        tasks.sleep(60)


def _define_policies() -> SimpleNamespace:
    @task(returns=1, time_out=1, on_failure="IGNORE", defaults={"returns": 7})
    def ignored():
        time.sleep(60)

    @task(returns=1, time_out=1, on_failure="RETRY")
    def tried_again(path):
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 2:
            time.sleep(60)
        return os.path.getsize(path)

    @task(returns=1, time_out=1, on_failure="CANCEL_SUCCESSORS")
    def cancels():
        time.sleep(60)

    return SimpleNamespace(**locals())


policies = _define_policies()


def test_the_policy_of_a_task_holds_for_calls_whose_time_is_up(
    session: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with session(workers=3):
        ignored, again, cancels = policies.ignored(), policies.tried_again(str(tmp_path / "tries")), policies.cancels()
        assert wait_on([ignored, tasks.double(ignored), again]) == [7, 14, 2]
        assert wait_on([cancels, tasks.double(cancels)]) == [None, None]
    said = "_define_policies.ignored (call 1) failed, and its failure is ignored: TaskTimeoutError"
    assert said in capfd.readouterr().err
