"""The child processes of tasks, in a whole run."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from runmem.units import MIB

pytestmark = pytest.mark.slow

PROGRAM = """
import multiprocessing, os, signal, subprocess, sys, time
from runmem import task, wait_on

HOLD = "x = b'x' * ({} << 20); import time; time.sleep({})"
SEEN_S = 1.5  # even a busy machine lets the sampler see in that time what there is

@task(returns=1)
def alone():
    return 1

@task(returns=1)
def starts(mebibytes, seconds):
    return subprocess.run([sys.executable, "-S", "-c", HOLD.format(mebibytes, seconds)]).returncode

@task(returns=1)
def starts_little():
    return subprocess.run(["true"]).returncode

def hold(mebibytes):
    x = b"x" * (mebibytes << 20)
    time.sleep(SEEN_S)

@task(returns=1)
def forks():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(hold, [30, 40], chunksize=1)
    return 0

@task(returns=1)
def dies(mark):
    if os.path.exists(mark):  # the worker was restarted
        process = multiprocessing.get_context("fork").Process(target=int)
        process.start()
        process.join()
        return process.exitcode
    open(mark, "w").close()
    child = subprocess.Popen([sys.executable, "-S", "-c", HOLD.format(80, 600)])
    time.sleep(SEEN_S)
    child.kill()
    os.kill(os.getpid(), signal.SIGKILL)

wait_on(alone())
wait_on(starts(50, SEEN_S))
wait_on(starts(400, 0))
for _ in range(4):
    wait_on(starts_little())
wait_on(forks())
wait_on(alone())
print("exit code of a child of a restarted worker:", wait_on(dies("mark")))
"""


@pytest.fixture(scope="module")
def ran(module_folder, runmem: Callable):
    (module_folder / "app.py").write_text(PROGRAM)
    return runmem(module_folder, "--workers=1", "--python_memory_profile", "app.py")


def test_the_children_of_each_task_are_in_its_record_and_in_the_report(ran, runmem: Callable):
    assert ran.out.splitlines()[-1:] == ["exit code of a child of a restarted worker: 0"], ran.err
    first, sampled, exact, *little, forks, last, died, again = ran.records
    assert [record["name"] for record in (first, last, again)] == ["alone", "alone", "dies"]
    assert not any(name.startswith("children") for record in (first, last) for name in record)
    assert (died["status"], died["children_method"]) == ("killed", "sampled")
    assert 80 * MIB < died["children_peak_bytes"] < 100 * MIB
    assert died["peak_bytes"] < 80 * MIB  # the worker alone
    assert sampled["children_method"] == "sampled"
    assert 50 * MIB < sampled["children_peak_bytes"] < 70 * MIB
    assert exact["children_method"] == "hwm"
    assert 400 * MIB < exact["children_peak_bytes"] < 420 * MIB
    missed = [record for record in little if record["children_method"] == "missed"]
    assert missed  # a busy machine may give the sampler the time to see one or the other
    for record in missed:
        assert record.get("children_peak_bytes") is None
        assert "ended before they were sampled" in record["reason"]
    assert (forks["children_method"], forks["children_command"]) == ("sampled", "(forked)")
    assert forks["children_peak_bytes"] > 70 * MIB
    assert all(record["children_command"].startswith("python") for record in (died, sampled))
    report = runmem(ran.folder, "report").out
    assert "Child command" in report
    assert re.search(r"8\d\.\d MiB in its child processes \(python", report)
    assert "in its child processes" in ran.err
