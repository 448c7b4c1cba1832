"""`runmem trial` with jobs of a real Slurm: results of each method, and failures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
HOLD = "import time; x = bytearray(100 << 20); x[::4096] = b'1' * len(x[::4096]); time.sleep({seconds})"


def holding(seconds: float) -> tuple[str, ...]:
    """Return a command that uses 100 MiB, run by the interpreter itself and not by a shim."""
    return sys.executable, "-S", "-c", HOLD.format(seconds=seconds)


@pytest.fixture
def trial(runmem: Callable[..., Any]) -> Callable[..., tuple[Any, list[dict[str, Any]]]]:
    """Return a function that runs a trial and returns its process result and its executions."""

    def run(*words: str) -> tuple[Any, list[dict[str, Any]]]:
        done = runmem("trial", "--json", "--repeat", "1", *words)
        return done, json.loads(done.stdout)["executions"] if done.stdout else []

    return run


def size(execution: dict[str, Any], column: str) -> int | None:
    return execution["readings"][column]["bytes"]


def queue() -> str:
    return subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


def test_the_same_command_is_measured_under_every_start(folder: Path, trial: Callable[..., Any]) -> None:
    done, executions = trial("--start", "local,srun,sbatch", "--methods", "hwm,tree,time,sacct,sstat", "--control",
                             "one:64MiB", "--", *holding(2.5))  # fmt: skip
    assert done.returncode == 0, done.stderr
    commands = {each["start"]: each for each in executions if each["role"] == "command"}
    assert set(commands) == {"local", "srun", "sbatch"}
    for each in commands.values():
        assert 100 * MIB < size(each, "hwm") < 130 * MIB
        assert abs(size(each, "time") - size(each, "hwm")) < MIB
        assert abs(size(each, "tree") - size(each, "hwm")) < 2 * MIB
        assert each["wall_s"] is not None
    for start in ("srun", "sbatch"):
        for column in ("sacct MaxRSS", "sacct AveRSS", "sstat MaxRSS"):
            assert 100 * MIB < size(commands[start], column) < 130 * MIB
    assert size(commands["sbatch"], "sacct batch") == size(commands["sbatch"], "sacct MaxRSS")
    assert commands["local"]["readings"]["sacct MaxRSS"]["note"] == "cannot measure commands started by local"
    for each in executions:
        if each["role"] == "control":
            assert abs(size(each, "hwm") - each["truth"]["process_bytes"]) <= 0.5 * MIB
    document = json.loads(done.stdout)
    assert {each["start"] for each in document["trusted"] if each["column"] == "hwm"} == {"local", "srun", "sbatch"}
    assert document["provenance"]["slurm"]["JobAcctGatherType"].startswith("jobacct_gather/")
    assert list(folder.iterdir()) == []


def test_a_command_that_starts_a_step_is_not_taken_for_its_wrapper(trial: Callable[..., Any]) -> None:
    _, (each,) = trial("--start", "sbatch", "--methods", "hwm,time,sacct", "--control", "none", "--", "srun",
                       "--ntasks=1", *holding(2.5))  # fmt: skip
    assert size(each, "sacct MaxRSS") > 100 * MIB
    assert size(each, "sacct batch") < 20 * MIB
    assert each["readings"]["sacct batch"]["partial"]
    assert each["readings"]["time"]["partial"]
    assert size(each, "hwm") is None
    assert "starts steps with srun" in each["readings"]["hwm"]["note"]


def test_a_job_that_was_killed_for_memory_has_a_reason_and_no_memory(slurm: Path, trial: Callable[..., Any]) -> None:
    if (slurm / "gather").read_text().strip() != "cgroup":
        pytest.skip("no memory control groups here: Slurm does not hold jobs to their memory")
    done, executions = trial("--start", "srun,sbatch", "--methods", "sacct", "--control", "none", "--keep-going",
                             "--extra_submit_flag=--mem=50MiB", "--", *holding(1))  # fmt: skip
    assert done.returncode in (1, 137)
    assert [each["exit_code"] != 0 for each in executions] == [True, True]
    for each in executions:
        assert size(each, "sacct MaxRSS") is None
        assert "killed for memory (OUT_OF_MEMORY)" in each["readings"]["sacct MaxRSS"]["note"]


def test_a_command_that_fails_shows_its_output_and_keeps_its_exit_code(trial: Callable[..., Any]) -> None:
    done, executions = trial("--start", "srun,sbatch", "--methods", "time", "--control", "none", "--keep-going", "--",
                             "sh", "-c", "echo oh no >&2; exit 9")  # fmt: skip
    assert done.returncode == 9
    assert [each["exit_code"] for each in executions] == [9, 9]
    assert all("oh no" in each["output"] for each in executions)
    assert "oh no" in done.stderr


@pytest.mark.parametrize("start", ["srun", "sbatch"])
def test_a_partition_that_does_not_exist_is_told_before_anything_runs(start: str, trial: Callable[..., Any]) -> None:
    done, _ = trial("--start", start, "--queue", "nope", "--", "true")
    assert done.returncode == 2
    assert "nvalid partition" in done.stderr
    assert "--queue: the queues (partitions) here are closed, debug" in done.stderr


@pytest.mark.parametrize("start", ["srun", "sbatch"])
def test_a_job_that_does_not_start_is_cancelled_and_the_queues_reason_told(
    start: str, folder: Path, trial: Callable[..., Any]
) -> None:
    done, _ = trial("--start", start, "--job_wait", "5", "--control", "none", "--extra_submit_flag=--begin=now+1hour",
                    "--methods", "time", "--", "true")  # fmt: skip
    assert done.returncode != 0
    assert "has not started within 5 s (--job_wait)" in done.stderr
    assert "BeginTime: its begin time has not been reached" in done.stderr
    waits = [line for line in done.stderr.splitlines() if line.startswith("runmem trial: job ") and "PENDING" in line]
    assert len(waits) == 1  # told once, while it waited
    assert queue() == ""
    assert list(folder.iterdir()) == []


def test_a_job_that_can_never_start_is_not_waited_for(trial: Callable[..., Any]) -> None:
    done, _ = trial("--start", "sbatch", "--control", "none", "--methods", "time", "--extra_submit_flag=--time=99:0:0",
                    "--", "true")  # fmt: skip
    assert "will never start as it is" in done.stderr
    assert queue() == ""


@pytest.mark.parametrize("start", ["srun", "sbatch"])
def test_ctrl_c_cancels_the_job(start: str, folder: Path, eventually: Callable[..., Any]) -> None:
    words = ["trial", "--start", start, "--methods", "hwm,sstat", "--control", "none", "--", "sh", "-c",
             "touch begun; exec sleep 300"]  # fmt: skip
    running = subprocess.Popen([sys.executable, "-m", "runmem", *words], stdin=subprocess.DEVNULL, cwd=folder,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    eventually(lambda: (folder / "begun").exists() or running.poll() is not None)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "interrupted" in said
    assert queue() == ""
    assert [path.name for path in folder.iterdir()] == ["begun"]
