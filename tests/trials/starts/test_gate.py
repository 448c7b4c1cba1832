"""The gate of a job, with a process of this machine in the place of the job's."""

from __future__ import annotations

import os
import subprocess

import pytest

from runmem.trials.methods.contract import Method
from runmem.trials.starts.follower import Follower
from runmem.trials.starts.gate import JobGate


@pytest.fixture
def waiting(site):
    """Return a function that starts a command at a gate, and its gate and stander once it stands there."""
    started = []

    def start(command, **environment):
        gate = JobGate(site.folder)
        started.append(subprocess.Popen(gate.around(command), env={**os.environ, "SLURM_JOB_ID": "7", **environment}))
        while (stander := gate.stander()) is None:
            assert started[-1].poll() is None
        return gate, stander, started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_process_stands_there_says_who_it_is_and_becomes_the_command(waiting, tmp_path):
    mark = tmp_path / "mark"
    gate, stander, process = waiting(["sh", "-c", f"echo $$ >{mark}"], SLURM_STEP_ID="3")
    assert (stander.pid, stander.job, stander.step, stander.tasks, stander.unseen) == (process.pid, "7", "3", 1, None)
    assert not mark.exists()
    gate.open(lambda: False)
    assert process.wait(60) == 0
    assert int(mark.read_text()) == process.pid


def test_one_of_several_tasks_is_not_taken_for_all(waiting):
    gate, stander, process = waiting(["true"], SLURM_STEP_NUM_TASKS="4")
    assert "the step has 4 tasks" in stander.unseen
    gate.open(lambda: False)
    assert process.wait(60) == 0


def test_a_process_of_another_host_is_out_of_sight(site):
    gate = JobGate(site.folder)
    (site.folder / "says-0").write_text(f"{os.getpid()} 7 batch 1 file\n")
    assert "out of sight" in gate.stander().unseen


def test_half_a_line_is_nobody_yet(site):
    gate = JobGate(site.folder)
    (site.folder / "says-0").write_text("12")
    assert gate.stander() is None


def test_a_job_that_ends_at_the_gate_does_not_keep_the_trial(site):
    gate = JobGate(site.folder)
    (site.folder / "says-0").write_text("1 7 batch 1 pipe\n")
    assert gate.stander() is not None
    asked = []
    gate.open(lambda: bool(asked.append(1)) or True)
    assert asked


def test_its_processes_are_followed_from_outside_with_their_marks(waiting):
    from runmem.trials.methods import METHODS

    if (reason := METHODS["hwm"]().available()) is not None:
        pytest.skip(reason)
    code = "x = bytearray(50 << 20); x[::4096] = b'1' * len(x[::4096])"
    gate, stander, process = waiting(["sh", "-c", f'python3 -c "{code}"; exit 5'])
    follower = Follower(stander.pid, trace=True)
    assert follower.reason is None
    gate.open(lambda: False)
    assert follower.wait(lambda: False) is not None
    processes = follower.processes()
    follower.close()
    assert process.wait(60) == 5
    assert max(each.peak_bytes for each in processes) > 50 << 20
    assert stander.pid in {each.pid for each in processes}


def test_a_method_does_nothing_for_a_job_unless_it_says_so():
    assert Method().watch_job("7") is None
