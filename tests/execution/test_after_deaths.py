"""What happens to calls whose worker was killed for memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import distributed
import numpy as np
import pytest

from runmem import TaskKilledError, task, wait_on
from runmem.collection.process_deaths import DiedWorker, Kill
from runmem.dask_private import worker_memory_limit
from runmem.deaths import Cause, Death
from runmem.events import TaskRecord
from runmem.execution.after_deaths import larger_workers, no_room_alone
from runmem.execution.placement import WorkerInfo
from runmem.store.run import read_run
from runmem.units import MIB


def _define() -> SimpleNamespace:
    @task(returns=1)
    def hold(mib, seconds):
        block = np.ones(mib * MIB, dtype=np.uint8)
        time.sleep(seconds)
        return len(block)

    def grow(mib, then_s=60):  # until it is killed: on a busy machine Dask may see it late
        blocks = [np.ones(200 * MIB, dtype=np.uint8)]
        while len(blocks) * 10 < mib - 190:
            blocks.append(np.ones(10 * MIB, dtype=np.uint8))
            time.sleep(0.06)  # slow enough for Dask to see it soon after the limit
        time.sleep(then_s)

    @task(returns=1)
    def grow_at_first(path):
        with open(path, "a") as file:
            file.write("begun\n")
        if len(Path(path).read_text().splitlines()) == 1:
            grow(500)
        time.sleep(0.3)
        return "ended"

    @task(returns=1, on_failure={"management": "RETRY"})
    def grow_always():
        grow(500)

    @task(returns=1, on_memory="fail")
    def grow_once():
        grow(500)

    @task(returns=1, on_memory="retry_larger")
    def grow_larger():
        grow(450, 0)
        while (worker_memory_limit(distributed.get_worker()) or 0) < 450 * MIB:
            time.sleep(0.05)  # it is killed the first time
        return "ended"

    return SimpleNamespace(**locals())


tasks = _define()


def limit_of(dask_worker: Any) -> int | None:
    return worker_memory_limit(dask_worker)


def overlap(one: TaskRecord, other: TaskRecord) -> bool:
    return one.start_s < (other.end_s or one.start_s) and other.start_s < (one.end_s or other.start_s)


def error_of(future: Any) -> TaskKilledError:
    with pytest.raises(TaskKilledError) as raised:
        wait_on(future)
    return raised.value


@pytest.mark.slow
def test_a_call_killed_for_memory_runs_once_more_alone_on_its_node(
    session: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with session(workers=2, worker_memory="400MiB") as run:
        beside = [tasks.hold(1, 0.1) for _ in range(8)]
        better = tasks.grow_at_first(tmp_path / "begun")
        always, larger = tasks.grow_always(), tasks.grow_larger()
        beside += [tasks.hold(1, 0.1) for _ in range(12)]
        assert wait_on(better) == "ended"
        error = error_of(always)
        assert (error.tries, error.is_for_memory) == (2, True)
        assert "The last time it ran alone on its node." in str(error)
        assert "--worker_memory" in str(error)
        assert wait_on(larger) == "ended"
        assert set(wait_on(beside)) == {MIB}
        client, _ = run._connect()
        for nanny in (False, True):
            limits = client.run(limit_of, nanny=nanny)  # as they were
            assert set(limits.values()) == {400 * MIB}
    records = [record for record in read_run(run.directory.root).records if record.start_s]
    attempts = {
        name: [(r.attempt, r.status) for r in sorted(records, key=lambda r: r.attempt) if r.name.endswith(name)][:2]
        for name in ("at_first", "always", "larger")
    }
    assert attempts == {
        "at_first": [(1, "killed"), (2, "finished")],
        "always": [(1, "killed"), (2, "killed")],
        "larger": [(1, "killed"), (2, "finished")],
    }
    (larger,) = [r for r in records if r.name.endswith("larger") and r.attempt == 2]
    assert larger.limit_bytes > larger.peak_bytes > 450 * MIB
    # A result that is lost with a later death is made again, beside others.
    for alone in [r for r in records if r.attempt == 2 and not r.name.endswith("hold")]:
        assert [r for r in records if r is not alone and overlap(alone, r)] == []
    said = capfd.readouterr().err
    assert said.count("it is tried again, alone on its node") == 3
    assert "marked as failed" not in said


@pytest.mark.slow
def test_without_measuring_the_policy_is_the_same(session: Callable[..., Any]) -> None:
    with session(workers=2, worker_memory="400MiB", python_memory_profile=False):
        beside = [tasks.hold(1, 0.1) for _ in range(6)]
        error = error_of(tasks.grow_once())
        assert (error.tries, error.kind) == (1, "nanny limit")
        assert "Dask's nanny ended the worker" in str(error)
        assert 'It was not tried again, because on_memory is "fail".' in str(error)
        assert set(wait_on(beside)) == {MIB}


PROGRAM = """
import json, time
import numpy as np
from runmem import task, barrier, wait_on

@task(returns=1)
def hold(mib):
    blocks = []
    while len(blocks) * 10 < mib:
        blocks.append(np.ones(10 * 2**20, dtype=np.uint8))
        time.sleep(0.02)
    time.sleep(0.3)
    return mib

print(sum(wait_on([hold(220) for _ in range(4)])))
"""


@pytest.mark.slow
def test_calls_too_large_together_end_well_alone(memory_group: Callable[[int], Path], tmp_path: Path) -> None:
    """The kernel kills workers of a node whose calls together exceed its limit; each call alone does not."""
    (tmp_path / "app.py").write_text(PROGRAM)
    group = memory_group(600 * MIB)
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
    start = f"{enter}import sys; from runmem.cli import main; sys.argv[0] = 'runmem'; main()"
    options = ["run", "--python_memory_profile", "--workers=4", "--worker_memory=400MiB", "app.py"]
    ran = subprocess.run(
        [sys.executable, "-c", start, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "880\n"), ran.stderr
    (folder,) = (tmp_path / "runmem_runs").iterdir()
    records = read_run(folder).records
    assert any(record.status == "killed" for record in records)
    assert {record.task_id for record in records if record.status == "finished"} == {1, 2, 3, 4}
    assert "it is tried again, alone on its node" in ran.stderr


def record(base_mib: int, peak_mib: int, limit_mib: int | None = 400) -> TaskRecord:
    return TaskRecord(
        1, "f", "m", "node", 7, 7, 0.0, 0.0, status="killed", base_bytes=base_mib * MIB, peak_bytes=peak_mib * MIB,
        limit_bytes=None if limit_mib is None else limit_mib * MIB,
    )  # fmt: skip


def test_a_call_that_alone_has_no_room_is_not_tried_again() -> None:
    worker = DiedWorker(Death(Cause.NANNY_LIMIT, "used too much", limit_bytes=400 * MIB))
    node = DiedWorker(Death(Cause.CGROUP_LIMIT, "used too much", limit_bytes=900 * MIB))
    assert no_room_alone(worker, None) is None
    assert no_room_alone(worker, Kill("", record(70, 385))) is None  # its last reading fits
    assert no_room_alone(worker, Kill("", record(250, 500))) is None  # beside the data that the worker had
    refused = no_room_alone(worker, Kill("", record(70, 500)))
    assert refused is not None
    assert "grown by 430.0 MiB" in refused
    assert "400.0 MiB" in refused
    assert no_room_alone(node, Kill("", record(70, 500, 700))) is None
    assert no_room_alone(node, Kill("", record(70, 500, 450))) is not None  # the worker's own limit counts
    assert no_room_alone(DiedWorker(Death(Cause.CGROUP_LIMIT, "unknown limit")), Kill("", record(70, 500))) is None


def test_a_larger_worker_is_one_with_the_largest_limit() -> None:
    workers = [WorkerInfo("a", "h", 1, 300), WorkerInfo("b", "h", 1, 500), WorkerInfo("c", "i", 1, 500)]
    assert larger_workers(workers, 300) == ("b", "c")
    assert larger_workers(workers, 500) == ()
    assert larger_workers(workers, None) == ()
    assert larger_workers([*workers, WorkerInfo("d", "i", 1, 0)], 500) == ("d",)  # without a limit
    assert larger_workers([], 300) == ()
