"""Workers that die: what the program and the records tell of it, and what is done again."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import psutil
import pytest

from runmem import INOUT, TaskKilledError, barrier, task, wait_on
from runmem.collection.killed_tasks import facts_of
from runmem.deaths import Cause
from runmem.formats.mprof import read_trace
from runmem.store.run import read_run, readings_of
from runmem.units import MIB


def _define() -> SimpleNamespace:
    @task(returns=1)
    def hold(mib, seconds):
        block = np.ones(mib * MIB, dtype=np.uint8)
        time.sleep(seconds)
        return len(block)

    @task(returns=1)
    def hold_and_die(mib):
        block = np.ones(mib * MIB, dtype=np.uint8)
        time.sleep(0.35)  # long enough for the sampler to read it three times
        os.kill(os.getpid(), signal.SIGKILL)
        return len(block)

    @task(returns=1)
    def die_at(number, bad):
        if number == bad:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @task(returns=1)
    def leave(status):
        os._exit(status)

    @task(returns=1)
    def crash(number):
        os.kill(os.getpid(), number)
        time.sleep(60)  # another thread may be the one that is interrupted

    @task(data=INOUT)
    def append(data, item):
        data.append((item, os.getpid()))

    @task(returns=1)
    def items(data):
        return [item for item, _ in data]

    @task(returns=1)
    def note_start(path, seconds=0.5):
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds if len(Path(path).read_text().splitlines()) == 1 else 0.5)
        return os.getpid()

    return SimpleNamespace(**locals())


tasks = _define()


def _kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    process.wait(60)


def test_a_task_that_kills_its_worker_is_named_with_its_last_reading(session: Callable[..., Any]) -> None:
    with session() as run:
        wait_on([tasks.hold(1, 0) for _ in range(4)])
        doomed = tasks.hold_and_die(120)
        with pytest.raises(
            TaskKilledError, match=r"task _define.hold_and_die \(call 5\): its worker process died"
        ) as raised:
            wait_on(doomed)
        told = str(raised.value)
        assert "killed by signal 9" in told
        assert "somebody sent it" in told
        assert re.search(
            r"\n    on node \S+, process \d+\n    last reading [\d.]+ MiB of the worker's [\d.]+ GiB\n", told
        )
        assert "raise --worker_memory" in told
        wait_on(tasks.hold(1, 0))  # the cluster goes on
    killed = [record for record in read_run(run.directory.root).records if record.status == "killed"]
    assert {record.task_id for record in killed} == {5}
    assert [record.attempt for record in killed] == [1, 2, 3, 4]
    assert any((record.death.growth_bytes_per_s or 0) > 10 * MIB for record in killed)
    assert all(fact in told for fact in facts_of(killed[-1]))
    for record in killed:
        assert record.death.cause is Cause.SIGKILL
        assert "killed by signal 9" in record.reason
        assert record.method == "sampled"
        assert record.peak_bytes >= record.last_bytes
    # On a busy machine, not each of the four was read once it held all.
    assert max(record.last_bytes - record.base_bytes for record in killed) > 100 * MIB


def test_few_tasks_share_the_fate_of_a_killed_worker(session: Callable[..., Any]) -> None:
    with session(python_memory_profile=False):
        futures = [tasks.die_at(number, 60) for number in range(200)]
        lost = []
        for number, future in enumerate(futures):
            try:
                assert wait_on(future) == number
            except TaskKilledError:
                lost.append(number)
        assert 60 in lost
        assert len(lost) <= 3


def test_results_lost_with_their_worker_are_made_again(session: Callable[..., Any]) -> None:
    with session() as run:
        data: list[Any] = []
        steps = []
        for item in range(12):
            tasks.append(data, item)
            steps.append(tasks.items(data))
        barrier()
        holders = {pid for _, pid in wait_on(data)}
        for pid in holders:
            _kill(pid)
        assert wait_on(steps) == [list(range(item + 1)) for item in range(12)]
        tasks.append(data, 12)
        assert wait_on(tasks.items(data)) == list(range(13))
    attempts = [record.attempt for record in read_run(run.directory.root).records if record.name.endswith("append")]
    assert max(attempts) > 1


def test_a_task_whose_worker_is_killed_once_runs_again(
    session: Callable[..., Any], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    started = tmp_path / "started"
    with session() as run:
        future = tasks.note_start(started)
        eventually(lambda: started.exists() and started.read_text().endswith("\n"))
        first = int(started.read_text())
        _kill(first)
        assert wait_on(future) != first
    # The record of the killed attempt may come later: its cause is waited for.
    records = sorted(read_run(run.directory.root).records, key=lambda record: record.attempt)
    assert [record.status for record in records] == ["killed", "finished"]
    assert records[0].pid == first
    assert {record.attempt for record in records} == {1, 2}


ENDS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: tasks.leave(0), "the worker process exited with status 0", "in place of ending its process"),
    (lambda: tasks.leave(3), "the worker process exited with status 3", "in place of ending its process"),
    (lambda: tasks.crash(signal.SIGSEGV), "killed by signal 11", "PYTHONFAULTHANDLER=1"),
    (lambda: tasks.crash(signal.SIGABRT), "killed by signal 6", "PYTHONFAULTHANDLER=1"),
    (lambda: tasks.crash(signal.SIGTERM), "killed by signal 15", "has sent this signal"),
]


def test_what_is_advised_goes_with_how_the_worker_ended(session: Callable[..., Any]) -> None:
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), session() as run:
        for end, cause, advice in ENDS:
            with pytest.raises(TaskKilledError) as raised:
                wait_on(end())
            message = str(raised.value)
            assert cause in message.replace("The worker", "the worker")
            assert advice in message
            assert "--worker_memory" not in message
    records = read_run(run.directory.root).records
    for task_id, (_, cause, _) in enumerate(ENDS, 1):
        killed = [record for record in records if record.task_id == task_id and record.status == "killed"]
        assert len(killed) == 2, cause
        # One that is asked to end may do so in order before its nanny has seen the signal.
        assert sum(cause in record.reason for record in killed) >= (1 if "signal 15" in cause else 2)


def test_a_task_whose_worker_is_interrupted_goes_on(
    session: Callable[..., Any], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """Ctrl-C is for the program: it reaches the workers too, and they leave it to that."""
    started = tmp_path / "started"
    with session() as run:
        future = tasks.note_start(started, 2)
        eventually(lambda: started.exists() and started.read_text().endswith("\n"))
        first = int(started.read_text())
        os.kill(first, signal.SIGINT)
        assert wait_on(future) == first
    (record,) = read_run(run.directory.root).records
    assert (record.status, record.attempt, record.pid) == ("finished", 1, first)


def test_the_last_reading_of_a_killed_task_is_one_of_the_trace(session: Callable[..., Any]) -> None:
    killed_for_memory = pytest.raises(TaskKilledError, match="95 % of its memory limit|signal 9")
    with session(worker_memory="300MiB") as run, killed_for_memory:
        wait_on(tasks.hold(400, 3))
    data = read_run(run.directory.root)
    killed = [record for record in data.records if record.status == "killed"]
    assert killed
    traces = [read_trace(path) for path in data.traces]
    for record in killed:
        assert record.last_bytes in [*readings_of(traces, record.pid)[1], record.base_bytes]
        assert record.peak_bytes >= record.last_bytes
