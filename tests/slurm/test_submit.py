"""`runmem submit` on a real Slurm: exit code, both nodes, traces, and failures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

APP = """
import os, sys, time
from runmem import task, wait_on

@task(returns=1)
def where(i):
    held = bytearray(40 * 2**20)
    time.sleep(0.3)
    return os.environ["SLURMD_NODENAME"]

@task(returns=1)
def hold():
    held = bytearray(60 * 2**20)
    time.sleep(600)

if __name__ == "__main__":
    print(sorted(set(wait_on([where(i) for i in range(8)]))), sys.argv, os.environ.get("FROM_SCRIPT"), flush=True)
    if "hold" in sys.argv:
        wait_on([hold() for _ in range(4)])
    sys.exit(7)
"""
TWO_NODES = ("--num_nodes", "2", "--workers_per_node", "2", "--worker_memory", "300MiB", "--python_memory_profile")


@pytest.fixture
def app(folder: Path) -> str:
    (folder / "app.py").write_text(APP)
    return "app.py"


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runmem_runs/app_01/tasks.jsonl").read_text().splitlines()]


def test_a_job_on_two_nodes_gives_the_programs_exit_code_output_records_and_a_trace_a_node(
    folder: Path, app: str, runmem: Callable[..., Any]
) -> None:
    done = runmem("submit", *TWO_NODES, "--exec_time", "5", "--wait", app, "a b", "--flag")
    assert done.returncode == 7, done.stderr
    assert done.stdout == "['n1', 'n2'] ['app.py', 'a b', '--flag'] None\n"
    assert "FAILED, exit code 7" in done.stderr
    found = records(folder)
    assert sorted(record["task_id"] for record in found) == list(range(1, 9))
    assert {record["node"] for record in found} == {"n1", "n2"}
    assert {record["limit_bytes"] for record in found} == {300 * 2**20}
    assert {record["method"] for record in found} == {"hwm"}
    assert all(record["increment_bytes"] < 44 * 2**20 for record in found)  # the second may find freed memory
    assert sum(record["increment_bytes"] > 39 * 2**20 for record in found) >= 4
    provenance = json.loads((folder / "runmem_runs/app_01/run.json").read_text())
    assert sorted(provenance["nodes"]) == ["n1", "n2"]
    assert provenance["workers"] == 4
    assert provenance["lost"] == []
    for node in ("n1", "n2"):  # each worker's series is in the trace of its own node, and in no other
        trace = (folder / f"{node}.dat").read_text().splitlines()
        series = {line.split()[1] for line in trace if line.startswith("CHLD")}
        assert series == {f"worker-{record['pid']}" for record in found if record["node"] == node}


def test_a_job_on_one_node_needs_no_network(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    (folder / "env.sh").write_text("export FROM_SCRIPT=$FIRST-second\n")
    (folder / "pre.sh").write_text("export FIRST=first\n")
    done = runmem("submit", "--workers_per_node=2", "--pre_env_script=pre.sh", "--env_script=env.sh", "--wait", app)
    assert done.returncode == 7, done.stderr
    assert done.stdout == "['n1'] ['app.py'] first-second\n"
    assert json.loads((folder / "runmem_runs/app_01/run.json").read_text())["cluster"] == "local"


def test_a_whole_node_has_a_worker_a_core(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    assert runmem("submit", "--wait", app).returncode == 7
    assert json.loads((folder / "runmem_runs/app_01/run.json").read_text())["workers"] == 2


def _ended(job: str) -> bool:
    shown = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True).stdout
    return "JobState=RUNNING" not in shown and "JobState=COMPLETING" not in shown


def test_a_cancelled_job_leaves_its_traces_and_records(
    folder: Path, app: str, submitted: Callable[..., str], eventually: Callable[..., Any]
) -> None:
    job = submitted(*TWO_NODES, app, "hold")
    eventually(lambda: all(_last(folder, node) > 120 for node in ("n1", "n2")))
    subprocess.run(["scancel", job], check=True)
    eventually(lambda: _ended(job))
    eventually(lambda: "ended by SIGTERM" in (folder / f"runmem-{job}.err").read_text())
    found = records(folder)
    assert [record["status"] for record in found].count("finished") == 8
    cut_off = [record for record in found if record["status"] == "cancelled"]
    assert len(cut_off) == 4
    assert {record["node"] for record in cut_off} == {"n1", "n2"}
    assert all(record["increment_bytes"] > 55 * 2**20 for record in cut_off)
    provenance = json.loads((folder / "runmem_runs/app_01/run.json").read_text())
    assert provenance["exit_code"] == 128 + signal.SIGTERM
    assert provenance["lost"] == []


def _last(folder: Path, node: str) -> float:
    """Return the highest series in the last readings of a node in MiB, 0 while there is none."""
    try:
        lines = (folder / f"{node}.dat").read_text().splitlines()[-3:]
    except OSError:
        return 0
    return max((float(line.split()[2]) for line in lines if line.startswith("CHLD")), default=0)


def test_a_job_that_runs_out_of_time_leaves_its_traces_and_records(
    folder: Path, app: str, eventually: Callable[..., Any]
) -> None:
    with (folder / "log").open("w") as log:
        following = subprocess.Popen(
            [sys.executable, "-m", "runmem", "submit", *TWO_NODES, "--exec_time", "0:00:15", "--wait", app, "hold"],
            stdin=subprocess.DEVNULL, stderr=log, stdout=log,
        )  # fmt: skip
        eventually(lambda: all(_last(folder, node) > 120 for node in ("n1", "n2")), within=120)
        job = (folder / "log").read_text().partition("runmem: job ")[2].split()[0]
        # Slurm makes a minute of the time asked for; the job need not wait for its end.
        subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now+1"], check=True)
        assert following.wait(120) == 143, (folder / "log").read_text()
    assert [record["status"] for record in records(folder)].count("cancelled") == 4
    assert (folder / "n1.dat").stat().st_size > 0
    assert (folder / "n2.dat").stat().st_size > 0


def test_a_queue_that_does_not_exist_is_told_with_those_that_do(app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("submit", "--queue", "nope", app)
    assert done.returncode == 2
    assert "invalid partition specified: nope" in done.stderr
    assert "the queues (partitions) here are closed, debug." in done.stderr


def test_features_that_no_node_has_are_told_with_those_that_are_there(app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("submit", "--constraints", "gpu", app)
    assert done.returncode == 2
    assert "the features of the nodes here are new, old." in done.stderr


def test_constraints_choose_the_node(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("submit", "--constraints=new", "--workers_per_node=1", "--wait", app)
    assert done.stdout.startswith("['n2']"), done.stderr


def test_a_job_that_cannot_start_is_told_with_the_reason_of_the_queue(app: str, runmem: Callable[..., Any]) -> None:
    done = runmem("submit", "--exec_time", "100:00:00", "--wait", app)
    assert done.returncode == 2
    assert re.search(r"can never start as submitted \(Partition\w+: the queue (does not allow|allows)", done.stderr)
    job = done.stderr.partition("runmem: job ")[2].split()[0]
    assert f"scancel {job}" in done.stderr
    subprocess.run(["scancel", job], check=True)


def test_a_job_that_waits_for_another_says_so_and_starts_after_it(
    folder: Path, app: str, submitted: Callable[..., str], runmem: Callable[..., Any]
) -> None:
    first = submitted("--workers_per_node=1", app)
    done = runmem("submit", "--workers_per_node=1", f"--job_dependency={first}", "--wait", app)
    assert done.returncode == 7
    assert f"{first}: " not in done.stderr
    assert "Dependency: it waits for the job it depends on" in done.stderr


def test_ctrl_c_leaves_the_job_and_says_how_to_cancel_it(
    folder: Path, app: str, eventually: Callable[..., Any]
) -> None:
    with (folder / "log").open("w") as log:
        following = subprocess.Popen(
            [sys.executable, "-m", "runmem", "submit", "--workers_per_node=1", "--wait", app, "hold"],
            stdin=subprocess.DEVNULL, stderr=log, stdout=log,
        )  # fmt: skip
        eventually(lambda: "RUNNING" in (folder / "log").read_text())
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
    text = (folder / "log").read_text()
    job = text.partition("runmem: job ")[2].split()[0]
    assert f"scancel {job} cancels it" in text
    assert not _ended(job)
    subprocess.run(["scancel", job], check=True)
    eventually(lambda: _ended(job))


def test_nothing_of_a_job_outlives_it(folder: Path, app: str, runmem: Callable[..., Any]) -> None:
    assert runmem("submit", *TWO_NODES, "--wait", app).returncode == 7
    left = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                cwd = os.readlink(process / "cwd")
                left += [process.name] if cwd == str(folder) and int(process.name) != os.getpid() else []
            except OSError:
                continue
    assert left == []
