"""Every way to die, as the program, the terminal, the records and the report show it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import distributed
import pytest

from runmem.deaths import Cause
from runmem.store.run import read_run
from runmem.units import MIB

from .conftest import make_environment

PROGRAM = """
import json, os, resource, signal, sys, time
import numpy as np
from runmem import TaskKilledError, TaskTimeoutError, task, wait_on

MIB = 2**20

@task(returns=1)
def make(mib):
    return np.ones(mib * MIB, np.uint8)

@task()
def neighbour(folder):
    block = np.ones(40 * MIB, np.uint8)
    while not os.path.exists(f"{folder}/done"):
        time.sleep(0.1)

@task(returns=1)
def grow(data):
    held = []
    for _ in range(100):
        held.append(np.ones(10 * MIB, np.uint8))
        time.sleep(0.03)

@task(returns=1)
def end_by(number):
    time.sleep(0.35)
    os.kill(os.getpid(), number)
    time.sleep(60)

@task(returns=1)
def leave():
    os._exit(3)

@task(returns=1)
def limited(raises):
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    time.sleep(0.5)
    return bytearray(2**33) if raises else os.abort()

@task(returns=1, time_out=1)
def late():
    time.sleep(60)

neighbour(os.getcwd())
data = make(30)
told = {}
for name, call in {
    "kernel": lambda: grow(data), "sigkill": lambda: end_by(signal.SIGKILL), "crash": lambda: end_by(signal.SIGSEGV),
    "exit": leave, "memory error": lambda: limited(True), "abort": lambda: limited(False), "late": late,
}.items():
    try:
        wait_on(call())
    except Exception as error:
        told[name] = {"type": type(error).__name__, "text": str(error), "notes": getattr(error, "__notes__", []),
                      **{key: value for key, value in vars(error).items() if key != "__notes__"}}
open("done", "w").close()
json.dump(told, sys.stdout)
"""


@pytest.mark.slow
def test_every_way_to_die_is_named_with_its_facts(memory_group: Callable[[int], Path], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    group = memory_group(700 * MIB)
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
    start = f"{enter}import sys; from runmem.cli import main; sys.argv[0] = 'runmem'; main()"
    options = ["run", "--python_memory_profile", "--workers=2", "--worker_memory=2GiB", "--on_memory=fail", "app.py"]
    ran = subprocess.run(
        [sys.executable, "-c", start, *options], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env=make_environment(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)

    kinds = {name: error.get("kind") for name, error in told.items()}
    assert kinds == {
        "kernel": Cause.CGROUP_LIMIT, "sigkill": Cause.SIGKILL, "crash": Cause.CRASH, "exit": Cause.EXIT,
        "memory error": None, "abort": Cause.ABORT, "late": None,
    }, ran.stderr  # fmt: skip
    assert (told["memory error"]["type"], told["late"]["type"]) == ("MemoryError", "TaskTimeoutError")
    assert any("limited to 4.0 GiB" in note for note in told["memory error"]["notes"])
    assert "address space was limited to 4.0 GiB" in told["abort"]["text"]
    kernel = told["kernel"]
    assert kernel["is_for_memory"]
    assert not told["sigkill"]["is_for_memory"]
    assert (kernel["limit_bytes"], kernel["limit_owner"]) == (700 * MIB, f"the control group {group} (cgroup v1)")
    assert kernel["argument_bytes"]["data"] > 30 * MIB
    assert kernel["last_bytes"] > 100 * MIB
    assert kernel["growth_bytes_per_s"] > 10 * MIB
    assert kernel["node_free_bytes"] > MIB
    assert re.fullmatch(r"app\.neighbour \(call 1\) with [\d.]+ MiB", kernel["beside"])
    assert "give the container or session more memory" in kernel["text"]

    assert "runmem: task app.grow (call 3) was killed on node " in ran.stderr
    assert len(re.findall(r"^runmem: task .* was killed on node", ran.stderr, re.MULTILINE)) == 6
    records = read_run(next((tmp_path / "runmem_runs").iterdir())).records
    killed = {record.task_id: record.death.cause for record in records if record.status == "killed" and record.death}
    assert sorted(killed.values()) == sorted([*filter(None, kinds.values()), Cause.TIME_LIMIT])
    failed = next(record for record in records if record.status == "failed")
    assert failed.death is not None
    assert (failed.death.cause, failed.death.limit_bytes) == (Cause.ADDRESS_SPACE, 4096 * MIB)
    report = subprocess.run(
        [sys.executable, "-m", "runmem", "report"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=make_environment(),
    ).stdout  # fmt: skip
    for text in ("\nKilled\n", "\nMemoryError\n", "was at its limit of 700.0 MiB", "beside it app.neighbour (call 1)"):
        assert text in report


REMOTE = """
import json, os, signal, sys, time
from runmem import TaskKilledError, task, wait_on

@task(returns=1)
def end_by(number, with_nanny):
    time.sleep(0.4)
    if with_nanny:
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), number)
    time.sleep(60)

if __name__ == "__main__":
    told = []
    for number, with_nanny in ((signal.SIGSEGV, False), (signal.SIGKILL, True)):
        try:
            wait_on(end_by(number, with_nanny))
        except TaskKilledError as error:
            told.append([error.kind, error.node, error.last_bytes, error.node_free_bytes, error.missing])
    json.dump(told, sys.stdout)
"""


@pytest.mark.slow
def test_a_death_on_a_node_without_other_workers_is_reported_by_its_nanny_and_the_loss_of_a_node_noticed(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(REMOTE)
    environment = make_environment(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    (tmp_path / "far").mkdir()
    of_node = {**environment, "RUNMEM_NODE_NAME": "far", "TMPDIR": str(tmp_path / "far")}
    with distributed.LocalCluster(
        n_workers=0, processes=False, host="127.0.0.1", protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as cluster:
        address = cluster.scheduler_address
        command = ["-m", "distributed.cli.dask_worker", address, "--nthreads=1", "--no-dashboard", "--host=127.0.0.1"]
        nanny = subprocess.Popen(
            [sys.executable, *command], env=of_node, cwd=tmp_path / "far", stderr=subprocess.DEVNULL
        )
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "runmem", "run", "--python_memory_profile", "--scheduler", address, "app.py"],
                cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=environment,
            )  # fmt: skip
        finally:
            nanny.kill()
            nanny.wait()
    assert ran.returncode == 0, ran.stderr
    crash, lost = json.loads(ran.stdout)
    assert (crash[:2], lost[:2]) == ([Cause.CRASH, "far"], [Cause.NODE_GONE, "far"]), ran.stderr
    assert crash[3] > MIB
    assert min(crash[2], lost[2]) > 10 * MIB
    assert (crash[4], lost[3]) == (None, None)
    assert "known on that node only" in lost[4]
    assert "was killed on node far: the node was lost" in ran.stderr
