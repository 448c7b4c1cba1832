"""Workers as users start them: without runmem, or recording by themselves with `runmem.preload`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed
import pytest

import runmem
from runmem.errors import ClusterError
from runmem.formats.mprof_lines import child_line
from runmem.store.layout import worker_series
from runmem.store.run import newest_run, read_run
from runmem.store.workers_run import WorkersRun
from runmem.units import MIB


def _functions() -> tuple[Any, Any]:
    """Return functions that travel by value: the workers cannot import this file."""

    def keeps(size_mib: int) -> int:
        time.sleep(0.2)
        return len(bytearray(size_mib * MIB))

    def dies() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)

    return keeps, dies


keeps, dies = _functions()


@pytest.mark.slow
def test_workers_without_runmem_are_named_and_the_others_are_measured(
    scheduler, start_worker, path_without_runmem, tmp_path, capsys
) -> None:
    start_worker()
    start_worker("--no-nanny", path=path_without_runmem)
    with runmem.measure(scheduler, run_folder=tmp_path / "runs", summary=False) as measured:
        start_worker(path=path_without_runmem)  # a later one, with a nanny: it has to start all the same
        futures = [
            scheduler.submit(keeps, 20, workers=[worker], key=worker)
            for worker in scheduler.scheduler_info()["workers"]
        ]
        assert [future.result(60) for future in futures] == [20 * MIB] * 3
    run = read_run(measured.directory.root)
    (record,) = run.records
    others = {future.key for future in futures} - {record.key}
    assert len(others) == 2
    told = capsys.readouterr().err
    assert told.count("runmem is not installed there") == 1
    assert f"`{sys.executable} -m pip install runmem==" in told
    for worker in others:
        assert any(worker in line and "runmem is not installed there" in line for line in run.provenance["lost"])


@pytest.mark.slow
def test_a_cluster_without_runmem_is_refused_and_goes_on(
    scheduler, start_worker, path_without_runmem, tmp_path
) -> None:
    start_worker(path=path_without_runmem)
    with pytest.raises(ClusterError, match="no worker of the cluster can be measured: .* not installed there"):
        runmem.measure(scheduler, run_folder=tmp_path / "runs").start()
    assert not (tmp_path / "runs").exists()
    assert scheduler.submit(sum, [1, 2]).result(60) == 3
    assert list(scheduler.run(lambda dask_worker: list(dask_worker.plugins)).values()) == [["shuffle"]]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["option", "environment"])
def test_preloaded_workers_record_by_themselves(scheduler, start_worker, tmp_path, eventually, how) -> None:
    given: dict[str, Any] = {"RUNMEM_RUN_FOLDER": str(tmp_path / "runs")}
    if how == "environment":
        options: tuple[str, ...] = ()
        given["DASK_DISTRIBUTED__WORKER__PRELOAD"] = "runmem.preload"
    else:
        options = ("--preload", "runmem.preload", "--preload-nanny", "runmem.preload")
    processes = [start_worker(*options, **given) for _ in range(2)]
    futures = scheduler.map(keeps, [30, 31, 32])
    assert [future.result(60) for future in futures] == [30 * MIB, 31 * MIB, 32 * MIB]
    with pytest.raises(distributed.scheduler.KilledWorker):
        scheduler.submit(dies, key="dies").result(120)
    root = newest_run(tmp_path / "runs")
    told = "the worker process was killed by signal 9"
    if how == "environment":  # which Dask's command does not read for a nanny
        told = "its worker process ended before the task did"
    eventually(lambda: sum((record.reason or "").startswith(told) for record in read_run(root).records) == 4)
    run = read_run(root)
    ended = [record for record in run.records if (record.name, record.status) == ("keeps", "finished")]
    sizes = {record.peak_bytes - record.base_bytes for record in ended}
    assert {round(size / MIB) for size in sizes} >= {30, 31, 32}
    killed = [record for record in run.records if record.status == "killed"]
    assert {record.key for record in killed} == {"dies"}
    assert all(record.reason.startswith(told) for record in killed)
    assert all(record.last_bytes is not None for record in killed)
    died = [line for line in run.provenance["lost"] if ": it died: " in line]
    assert {line.split()[2] for line in died} == {str(record.pid) for record in killed}
    assert all(told in line or how == "environment" for line in died)
    assert run.provenance.get("ended_s") is None
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert read_run(root).provenance["exit_code"] == 0
    report = subprocess.run(
        [sys.executable, "-m", "runmem", "report", str(root), "--json"], capture_output=True, text=True, check=True
    )
    summary = json.loads(report.stdout)
    assert {row["name"]: row["killed"] for row in summary["tasks"]} == {"keeps": 0, "dies": 4}
    assert [row["trace"] for row in summary["nodes"]] != [None]


@pytest.mark.slow
def test_a_preloaded_worker_that_cannot_record_works(scheduler, start_worker, tmp_path) -> None:
    (tmp_path / "a_file").touch()
    start_worker("--preload", "runmem.preload", RUNMEM_RUN_FOLDER=str(tmp_path / "a_file"))
    assert scheduler.submit(keeps, 1).result(60) == MIB


def test_a_task_of_a_process_at_work_is_running_and_of_another_killed(tmp_path: Path) -> None:
    run = WorkersRun.of_scheduler(tmp_path, "Scheduler-1234-5678")
    run.spool.make()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    node = run.spool.root.name
    for pid in (os.getpid(), int(dead.stdout)):
        run.join(pid, {"cluster": "dask workers"}, {"memory_bytes": 5}, 1_000.0)
        line = {"event": "start", "task_id": pid, "thread": 1, "start_s": 1_001.0, "base_bytes": 7, "module": "dask",
                "name": "f", "file": "", "node": node, "pid": pid, "limit_bytes": None, "key": f"f-{pid}"}  # fmt: skip
        run.spool.tasks(pid).write_text(json.dumps(line, separators=(",", ":")) + "\n")
    by_pid = {record.pid: record for record in read_run(run.directory.root).records}
    assert by_pid[os.getpid()].status == "running"
    assert by_pid[int(dead.stdout)].status == "killed"
    assert by_pid[int(dead.stdout)].reason == "its worker process ended before the task did"
    (told,) = read_run(run.directory.root).provenance["lost"]
    assert told.startswith(f"worker process {int(dead.stdout)} on node {node}: it died: the cause is not known")
    run.lose({"tasks of worker a": "at least 2 lines"})
    run.lose({"tasks of worker a": "at least 4 lines", "methods of actors": "they have no record"})
    run.leave(os.getpid(), 1_002.0)
    lost = read_run(run.directory.root).provenance["lost"]
    assert lost == ["tasks of worker a: at least 4 lines", "methods of actors: they have no record", told]
    assert read_run(run.directory.root).provenance["ended_s"] == 1_002.0
    assert {record.status for record in read_run(run.directory.root).records} == {"killed"}


@pytest.mark.parametrize(
    ("last_task_s", "is_named"),
    [(5.0, False), (90.0, True)],  # the last reading of the dead worker is of the 10th second
)
def test_a_worker_that_ended_idle_with_the_cluster_is_no_death(
    tmp_path: Path, last_task_s: float, is_named: bool
) -> None:
    run = WorkersRun.of_scheduler(tmp_path, "Scheduler-1234-5678")
    run.spool.make()
    made = [subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True) for _ in "ab"]
    idle, other = (int(each.stdout) for each in made)
    node = run.spool.root.name
    for pid in (idle, other):
        run.join(pid, {"cluster": "dask workers"}, {"memory_bytes": 5}, 1.0)
    times = [(idle, 9.0), (idle, 10.0), (other, 99.0)]
    trace = b"".join(child_line(worker_series(pid), MIB, time_s) for pid, time_s in times)
    (run.spool.root / f"{node}.dat").write_bytes(trace)
    line = {"task_id": 1, "thread": 1, "start_s": last_task_s, "end_s": last_task_s + 1, "module": "dask", "name": "f",
            "file": "", "node": node, "pid": other, "status": "finished"}  # fmt: skip
    run.spool.tasks(other).write_text(json.dumps(line, separators=(",", ":")) + "\n")
    read = read_run(run.directory.root)
    assert len(read.records) == 1
    died = [line.split()[2] for line in read.provenance["lost"] if ": it died: " in line]
    assert (str(idle) in died) == is_named
    assert str(other) not in died
    run.join(os.getpid(), {}, {}, 200.0)  # somebody is at work still: then it died before the end
    died = [line.split()[2] for line in read_run(run.directory.root).provenance["lost"] if ": it died: " in line]
    assert {str(idle), str(other)} == set(died)
