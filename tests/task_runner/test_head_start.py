"""Targets that begin before there is a cluster, by real programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import psutil
import pytest
import yaml

SLEEPS = """
class Sleeps(CmdLineTask):
    _DefaultName = "sleeps"
    def runDataRef(self, ref):
        time.sleep(float(ref.dataId["s"]))
"""
AT_ONCE = """
from runmem.task_runner import targets
targets._worth_s = lambda: 0.5  # a cluster is started for less than by itself
"""


def provenance(program) -> dict:
    (run_json,) = program.folder.glob("runmem_runs/*/run.json")
    return json.loads(run_json.read_text())


def numbers(program) -> list[int]:
    return sorted(record["task_id"] for record in program.records())


def most_at_once(records: list[dict]) -> int:
    """Return how many targets ran at the same time."""
    changes = [(record["start_s"], 1) for record in records] + [(record["end_s"], -1) for record in records]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def test_a_short_run_starts_no_cluster_and_has_the_same_records(program):
    program.write(
        SLEEPS + "Sleeps.parseAndRun(args=sys.argv[1:] + ['--noExit'])\nprint('distributed' in sys.modules)\n"
    )
    done = program.run("--id", "s=0.01^0.02^0.03", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
    assert {yaml.safe_load(record["data_id"])["s"] for record in program.records()} == {"0.01", "0.02", "0.03"}
    assert numbers(program) == [1, 2, 3]
    assert len({record["pid"] for record in program.records()}) == 2
    assert (provenance(program)["workers"], provenance(program)["calls"]) == (2, 3)
    assert provenance(program)["records_complete"]


@pytest.mark.slow
@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
def test_the_cluster_takes_over_what_is_left_and_no_target_runs_twice_or_beside_too_many(program, isolation):
    program.write(SLEEPS + AT_ONCE + "Sleeps.parseAndRun()\n")
    # The first holds its process while the cluster starts and works.
    ids = "^".join(["12", *(f"0.3{n:03}" for n in range(120))])
    done = program.run("--id", f"s={ids}", "-j", "2", *isolation)
    assert done.returncode == 0, done.stderr
    records = program.records()
    assert numbers(program) == list(range(1, 122))
    assert len({record["data_id"] for record in records}) == 121
    assert len({record["pid"] for record in records}) > 2  # two were forked
    assert most_at_once(records) == 2
    assert provenance(program)["calls"] == 121
    assert " ERROR:" not in done.stderr


def test_a_program_with_threads_is_not_forked(program):
    program.write(
        SLEEPS
        + """
import threading
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
from runmem.task_runner import head_start
head_start.HeadStart = None  # nobody is to make one
Sleeps.parseAndRun()
"""
    )
    done = program.run("--id", "s=0.01^0.02", "-j", "2")
    assert done.returncode == 0, done.stderr
    assert numbers(program) == [1, 2]


def test_a_target_that_uses_more_memory_than_a_worker_may_is_ended_and_its_record_says_so(program):
    program.write("""
        class Grows(CmdLineTask):
            _DefaultName = "grows"
            def runDataRef(self, ref):
                held = bytearray(b"1") * (ref.dataId["mib"] * 2**20)
                time.sleep(20 if len(held) > 200 * 2**20 else 0)
        Grows.parseAndRun()
    """)
    environment = {**os.environ, "RUNMEM_WORKER_MEMORY": "250MiB"}
    done = program.run("--id", "mib=10^400^20", "-j", "2", "--no-isolation", env=environment)
    assert done.returncode == 1, done.stderr
    assert "used more than 95 % of its memory limit" in done.stderr
    killed = [record for record in program.records() if record["status"] == "killed"]
    assert [yaml.safe_load(record["data_id"])["mib"] for record in killed] == [400]
    assert "used more than 95 % of its memory limit" in killed[0]["reason"]
    assert numbers(program) == [1, 2, 3]


@pytest.mark.parametrize("isolation", [[], ["--no-isolation"]])
def test_no_process_outlives_a_program_that_was_killed(program, isolation):
    program.write(SLEEPS + "Sleeps.parseAndRun()\n")
    master = subprocess.Popen(program.command("--id", "s=1000^1001", "-j", "2", *isolation), cwd=program.folder)
    try:
        deadline = time.monotonic() + 60
        family: list[psutil.Process] = []
        while len(family) < (4 if not isolation else 2):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            family = psutil.Process(master.pid).children(recursive=True)
        master.send_signal(signal.SIGKILL)
        master.wait()
        _, alive = psutil.wait_procs(family, timeout=10)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        master.kill()
        master.wait()
