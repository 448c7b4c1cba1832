"""The barrier of a job, with a process of this machine in the place of the job's."""

from __future__ import annotations

import os
import subprocess

import pytest

from runmem.trials.methods.contract import Method
from runmem.trials.starts.barrier import JobBarrier
from runmem.trials.starts.follower import Follower


@pytest.fixture
def waiting(site):
    """Return a function that starts a command at a barrier and returns the barrier and the waiting process."""
    started = []

    def start(command, **environment):
        barrier = JobBarrier(site.folder)
        started.append(
            subprocess.Popen(barrier.around(command), env={**os.environ, "SLURM_JOB_ID": "7", **environment})
        )
        while (waiting := barrier.waiting_process()) is None:
            assert started[-1].poll() is None
        return barrier, waiting, started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_process_waits_reports_its_id_and_executes_the_command(waiting, tmp_path):
    mark = tmp_path / "mark"
    barrier, waiting, process = waiting(["sh", "-c", f"echo $$ >{mark}"], SLURM_STEP_ID="3")
    assert (waiting.pid, waiting.job, waiting.step, waiting.tasks, waiting.unseen) == (process.pid, "7", "3", 1, None)
    assert not mark.exists()
    barrier.open(lambda: False)
    assert process.wait(60) == 0
    assert int(mark.read_text()) == process.pid


def test_one_of_several_tasks_is_not_taken_for_all(waiting):
    barrier, waiting, process = waiting(["true"], SLURM_STEP_NUM_TASKS="4")
    assert "the step has 4 tasks" in waiting.unseen
    barrier.open(lambda: False)
    assert process.wait(60) == 0


def test_a_process_of_another_host_is_out_of_sight(site):
    barrier = JobBarrier(site.folder)
    (site.folder / "arrived-0").write_text(f"{os.getpid()} 7 batch 1 file\n")
    assert "another host" in barrier.waiting_process().unseen


def test_an_incomplete_line_is_ignored(site):
    barrier = JobBarrier(site.folder)
    (site.folder / "arrived-0").write_text("12")
    assert barrier.waiting_process() is None


def test_a_job_that_ends_at_the_barrier_does_not_keep_the_trial(site):
    barrier = JobBarrier(site.folder)
    (site.folder / "arrived-0").write_text("1 7 batch 1 pipe\n")
    assert barrier.waiting_process() is not None
    asked = []
    barrier.open(lambda: bool(asked.append(1)) or True)
    assert asked


def test_its_processes_are_followed_from_outside_with_their_marks(waiting):
    from runmem.trials.methods import METHODS

    if (reason := METHODS["hwm"]().available()) is not None:
        pytest.skip(reason)
    code = "x = bytearray(50 << 20); x[::4096] = b'1' * len(x[::4096])"
    barrier, waiting, process = waiting(["sh", "-c", f'python3 -c "{code}"; exit 5'])
    follower = Follower(waiting.pid, trace=True)
    assert follower.reason is None
    barrier.open(lambda: False)
    assert follower.wait(lambda: False) is not None
    processes = follower.processes()
    follower.close()
    assert process.wait(60) == 5
    assert max(each.peak_bytes for each in processes) > 50 << 20
    assert waiting.pid in {each.pid for each in processes}


def test_a_method_ignores_jobs_by_default():
    assert Method().watch_job("7") is None
