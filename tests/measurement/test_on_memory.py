"""`measure(on_memory=...)`: what happens to Dask tasks whose worker was killed for its memory."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
from distributed.scheduler import KilledWorker

import runmem
from runmem.errors import SettingError, TaskKilledError
from runmem.events import TaskRecord
from runmem.measurement.memory_policy import DaskTaskKilledError
from runmem.store.run import read_run
from runmem.units import MIB


def grow(mib: int) -> int:
    """Take memory in steps until the worker is killed for it."""
    blocks: list[Any] = [np.ones(100 * MIB, dtype=np.uint8)]
    while len(blocks) * 10 < mib - 90:
        blocks.append(np.ones(10 * MIB, dtype=np.uint8))
        time.sleep(0.05)  # slow enough for Dask to see it soon after the limit
    time.sleep(60)  # on a busy machine Dask may see it late
    return mib


def is_first(path: Path) -> bool:
    with open(path, "a") as file:
        file.write("begun\n")
    return len(path.read_text().splitlines()) == 1


def grow_at_first(path: Path) -> str:
    if is_first(path):
        grow(400)
    time.sleep(0.3)
    return "ended"


def die_at_first(path: Path) -> str:
    if is_first(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return "ended"


def hold(number: int) -> int:
    time.sleep(0.1)
    return number


def wait_for_inner() -> int:
    """A task that leaves the pool of threads while it waits for others."""
    with distributed.worker_client() as client:
        return sum(client.gather(client.map(hold, range(1000, 1010))))


def is_left(dask_scheduler: Any) -> list[Any]:
    """Return what is left of measurements in a scheduler."""
    marked = [key for key, task in dask_scheduler.tasks.items() if task.annotations]
    return marked + [name for name in dask_scheduler.plugins if str(name).startswith("runmem")]


def error_of(future: distributed.Future) -> TaskKilledError:
    with pytest.raises(TaskKilledError) as raised:
        future.result()
    assert isinstance(raised.value, KilledWorker)  # for programs that catch that
    return raised.value


def overlap(one: TaskRecord, other: TaskRecord) -> bool:
    return one.start_s < (other.end_s or one.start_s) and other.start_s < (one.end_s or other.start_s)


@pytest.mark.slow
def test_a_task_killed_for_memory_is_not_tried_again_beside_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        # 15 s after a death Dask would close a worker that has died again just then, and so is not there.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="300MiB", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        with runmem.measure(client, run_folder=tmp_path, summary=False, on_memory="retry_alone") as measured:
            beside = client.map(hold, range(10))
            better = client.submit(grow_at_first, tmp_path / "better", key="better")
            dies = client.submit(die_at_first, tmp_path / "dies", key="dies")
            outer = client.submit(wait_for_inner, key="outer")
            beside += client.map(hold, range(10, 20))
            assert client.gather([better, dies, outer]) == ["ended", "ended", sum(range(1000, 1010))]
            error = error_of(client.submit(grow, 400, key="always"))
            assert (error.tries, error.kind) == (2, "nanny limit")
            assert str(error).startswith("the Dask task always: its worker process died each of the 2 times")
            assert client.gather(beside) == list(range(20))
        assert client.run_on_scheduler(is_left) == []
        with runmem.measure(client, run_folder=tmp_path, summary=False, on_memory="fail") as failing:
            once = client.submit(grow, 400, key="once")
            needs = client.submit(hold, once, key="needs")
            assert error_of(once).tries == 1
            assert "on_memory" in str(error_of(needs))
        assert client.run_on_scheduler(is_left) == []
    records = [record for record in read_run(measured.directory.root).records if record.key != "outer"]
    found: dict[str | None, list[TaskRecord]] = {}
    for record in sorted(records, key=lambda record: record.start_s):
        found.setdefault(record.key, []).append(record)
        assert not record.annotations  # the mark is no annotation of the user
    assert [record.status for record in found["better"]][:2] == ["killed", "finished"]
    assert [record.status for record in found["dies"]][:2] == ["killed", "finished"]
    assert [record.status for record in found["always"]] == ["killed", "killed"]
    for alone in (found["better"][1], found["dies"][1], found["always"][1]):
        assert [r.key for r in records if r is not alone and overlap(alone, r)] == []
    assert [r.status for r in read_run(failing.directory.root).records if r.key == "once"] == ["killed"]
    said = [line for line in capfd.readouterr().err.splitlines() if "it is tried again, alone on its node" in line]
    assert {"better", "always"} <= {line.removeprefix("runmem: the Dask task ").split(":")[0] for line in said}


def test_the_limits_of_a_cluster_of_the_user_are_not_raised() -> None:
    with (
        distributed.Client(
            processes=False, n_workers=1, dashboard_address="127.0.0.1:0", set_as_default=False
        ) as client,
        pytest.raises(SettingError, match="'retry_larger' cannot be used with measure.*use one of retry_alone, fail"),
    ):
        runmem.measure(client, on_memory="retry_larger")
    with pytest.raises(SettingError, match="'again' cannot be used: expected one of retry_alone, retry_larger, fail"):
        runmem.measure(client, on_memory="again")


def test_the_error_travels_with_what_it_says() -> None:
    error = DaskTaskKilledError("x-1", 7)
    error.args, error.tries, error.node, error.pid = ("the Dask task x-1: died",), 2, "vm", 5
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DaskTaskKilledError
    assert str(again) == "the Dask task x-1: died"
    assert (again.task, again.tries, again.allowed_failures) == ("x-1", 2, 1)
    assert again.last_worker == "process 5 on node vm"
