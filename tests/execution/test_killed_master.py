"""The master dies of SIGKILL while a task runs: what was measured until then is in the run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from runmem.formats.mprof import read_trace
from runmem.store.run import RunData, read_run, readings_of
from runmem.units import MIB

GOES_ON_S = 60.0  # the sampler reads workers until they have seen that the master is gone

PROGRAM = """
import os, signal, sys, time
import numpy as np
from runmem import task, wait_on

@task(returns=1)
def short(i):
    return i

@task(returns=1)
def long(path):
    block = np.ones(80 * 1024**2, dtype=np.uint8)
    open(path, "w").close()
    time.sleep(60)

wait_on([short(i) for i in range(50)])
long(sys.argv[1])
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
time.sleep(1.5)  # the sampler reads the node and the collector brings what it wrote
open(sys.argv[1] + ".killed", "w").write(repr(time.time()))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunData, float]:
    """Return what is left of the run, and when its master was killed."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "app.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "runmem", "--python_memory_profile", "--workers=2", "app.py", "started"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run = read_run(folder / "runmem_runs" / "app_01")
    return run, float((folder / "started.killed").read_text())


def test_finished_tasks_keep_their_records(killed_run: tuple[RunData, float]) -> None:
    run, _ = killed_run
    finished = [record for record in run.records if record.status == "finished"]
    assert sorted(record.task_id for record in finished) == list(range(1, 51))
    assert {record.name for record in finished} == {"short"}


def test_the_task_that_ran_is_recorded_as_killed_with_its_last_reading(killed_run: tuple[RunData, float]) -> None:
    run, killed_s = killed_run
    (record,) = [record for record in run.records if record.status == "killed"]
    assert (record.task_id, record.name) == (51, "long")
    assert record.method == "sampled"
    assert record.last_bytes - record.base_bytes > 75 * MIB
    assert "master was killed before" in record.reason
    assert record.end_s > killed_s - 1.5


def test_every_line_is_whole(killed_run: tuple[RunData, float]) -> None:
    run, _ = killed_run
    assert run.skipped == {}
    files = [path for path in run.directory.root.rglob("*") if path.suffix in (".jsonl", ".dat")]
    assert {path.suffix for path in files} == {".jsonl", ".dat"}
    for path in files:
        text = path.read_bytes()
        assert text.endswith(b"\n")
        assert b"\0" not in text
        assert b"\n\n" not in text
        if path.suffix == ".jsonl":
            assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


def test_the_traces_reach_to_the_kill(killed_run: tuple[RunData, float]) -> None:
    run, killed_s = killed_run
    assert len(run.traces) == 2
    for path in run.traces:
        times = read_trace(path).times_s
        assert killed_s - 1.5 < times[-1] < killed_s + GOES_ON_S
    (record,) = [record for record in run.records if record.status == "killed"]
    assert max(readings_of([read_trace(path) for path in run.traces], record.pid)[1]) > 75 * MIB


def test_the_traces_are_in_the_folder_of_the_start(killed_run: tuple[RunData, float]) -> None:
    run, _ = killed_run
    shown = run.directory.root.parent.parent
    assert {path.name for path in shown.glob("*.dat")} == {path.name for path in run.traces}


def test_no_process_of_the_run_is_left(killed_run: tuple[RunData, float]) -> None:
    """Workers end with their nanny, and the sampler when it has nobody left to sample."""
    run, _ = killed_run
    folder = str(run.directory.root.parent.parent)
    ours = [process for process in psutil.process_iter() if _belongs(process, folder)]
    psutil.wait_procs(ours, timeout=60)
    assert [process.cmdline() for process in ours if process.is_running()] == []


def _belongs(process: psutil.Process, folder: str) -> bool:
    try:
        return process.pid != os.getpid() and process.cwd().startswith(folder)
    except psutil.Error:
        return False
