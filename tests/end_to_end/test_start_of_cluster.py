"""Workers that die, and signals that come, while a run starts."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

PROGRAM = """
from runmem import task, wait_on

@task(returns=1)
def square(x):
    return x * x

print(wait_on([square(i) for i in range(4)]))
"""


def number_of_workers(pid: int) -> list[psutil.Process]:
    """Return the workers that a master has now."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def handles_termination(pid: int) -> bool:
    """Return whether a process has a handler of SIGTERM, or has ended."""
    try:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except FileNotFoundError:
        return True
    return status["State"].startswith("Z") or bool(int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("pause_s", [0.0, 0.2, 0.5])
def test_a_worker_that_dies_while_the_cluster_starts_costs_a_second_start(
    tmp_path, start, write, environment, processes_with, eventually, pause_s
):
    write(tmp_path, "app.py", PROGRAM)
    env = environment()
    process = start(tmp_path, "--python_memory_profile", "--workers=2", "app.py", env=env)
    workers = eventually(lambda: number_of_workers(process.pid))
    time.sleep(pause_s)
    workers[0].kill()
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (0, "[0, 1, 4, 9]\n"), err
    assert processes_with(env["RUNMEM_TEST_MARK"]) == {}


def test_workers_that_die_each_time_are_told_of_as_such(tmp_path, start, write, eventually):
    write(tmp_path, "app.py", PROGRAM)
    process = start(tmp_path, "--workers=2", "app.py")

    def killed_all_and_ended():
        for worker in number_of_workers(process.pid):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        return process.poll() is not None

    eventually(killed_all_and_ended)
    err = process.communicate()[1]
    assert process.returncode == 1
    assert "2 workers did not start: a worker process ended before it was ready, 3 times in a row" in err
    assert "Nanny" not in err


BAD_PRELOAD = """
import os, sys

def dask_setup(worker):
    if os.path.exists("broken"):
        print("no licence for this", file=sys.stderr, flush=True)
        os._exit(3)
"""

BREAKS = """
import os
from runmem import task, wait_on

@task(returns=1)
def fail():
    open(BROKEN, "w").close()
    os._exit(7)

wait_on(fail())
""".replace("BROKEN", "os.environ['BROKEN']")


def test_a_cluster_whose_workers_all_die_as_they_start_ends_the_run(tmp_path, start, write, environment):
    """At the start of the run, and when they are to take the place of others that died."""
    write(tmp_path, "app.py", BREAKS)
    write(tmp_path, "preloaded.py", BAD_PRELOAD.replace('"broken"', repr(str(tmp_path / "broken"))))
    more = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "preloaded", "BROKEN": str(tmp_path / "broken")}
    env = environment(**more)
    env["PYTHONPATH"] += f":{tmp_path}"
    errors = []
    for _ in range(2):
        process = start(tmp_path, "--workers=1", "app.py", env=env)
        errors.append(process.communicate(timeout=120)[1])
        assert process.returncode == 1
    later, at_once = errors
    told = re.search(r"every worker of the cluster dies as it starts: (\d+) have died", later)
    assert told is not None, later
    assert int(told[1]) >= 3  # Dask may start the next worker before the third death is counted
    assert "a worker process ended before it was ready, 3 times in a row" in at_once
    for error in errors:
        assert "the worker process exited with status 3. What" in error
        assert "no licence for this" in error


@pytest.mark.parametrize(
    ("number", "pause_s", "times"),
    [
        (number, pause_s, 1 + (place + (number == signal.SIGTERM)) % 2)  # each pause and each signal, once and twice
        for number in (signal.SIGINT, signal.SIGTERM)
        for place, pause_s in enumerate((0.2, 0.4, 0.8, 1.6))
    ],
)
def test_a_signal_during_the_start_is_answered_and_leaves_nothing(
    tmp_path, start, write, environment, processes_with, eventually, number, pause_s, times
):
    write(tmp_path, "app.py", PROGRAM + "import time\ntime.sleep(60)\n")
    (tmp_path / "spool").mkdir()
    env = environment(TMPDIR=str(tmp_path / "spool"))
    process = start(tmp_path, "--python_memory_profile", "--workers=1", "app.py", env=env)
    time.sleep(pause_s)
    eventually(lambda: handles_termination(process.pid))  # before, it is Python that starts, and may lose a Ctrl-C
    for _ in range(times):
        os.kill(process.pid, number)
        time.sleep(0.05)
    err = process.communicate(timeout=60)[1]
    assert process.returncode in (128 + number, -number), err
    if process.returncode == 128 + number:  # else Python itself had not started yet
        assert f"ended by {number.name}" in err, err
    assert list((tmp_path / "spool").glob("runmem-*/*")) == []
    eventually(lambda: not processes_with(env["RUNMEM_TEST_MARK"]))
