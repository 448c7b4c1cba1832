"""A signal to runmem ends the program with 128 + signal, and nothing that it started goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest

PROGRAM = """
import os, sys, time
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def endless(x):
    Path(f"started-{x}").touch()
    time.sleep(600)

if __name__ == "__main__":
    results = [endless(i) for i in range(2)]
    print("submitted", flush=True)
    if "and-end" not in sys.argv:
        try:
            wait_on(results)
        finally:
            print("tidied up", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "to_group", "argument", "tidied"),
    [
        (signal.SIGTERM, False, "", True),
        (signal.SIGHUP, False, "", True),
        (signal.SIGINT, False, "", True),
        (signal.SIGINT, True, "", True),  # as a terminal sends it: to the workers too
        (signal.SIGTERM, False, "and-end", False),  # the program has ended, its tasks have not
        (signal.SIGINT, True, "and-end", False),
    ],
)
def test_a_signal_ends_the_program_and_all_that_was_started(
    tmp_path, start, write, environment, processes_with, eventually, number, to_group, argument, tidied
):
    write(tmp_path, "app.py", PROGRAM)
    env = environment()
    process = start(tmp_path, "--python_memory_profile", "--workers=2", "app.py", argument, env=env)
    eventually(lambda: len(list(tmp_path.glob("started-*"))) == 2)
    family = processes_with(env["RUNMEM_TEST_MARK"])
    assert len(family) >= 4  # master, two workers, sampler
    assert any("sampler.py" in command for command in family.values())
    (os.killpg if to_group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == "submitted\n" + "tidied up\n" * tidied
    assert f"ended by {signal.Signals(number).name} (exit code {128 + number})" in err
    eventually(lambda: not processes_with(env["RUNMEM_TEST_MARK"]))


def test_a_program_that_handles_the_signal_goes_on(tmp_path, start, write):
    write(
        tmp_path,
        "app.py",
        """
        import os, signal
        signal.signal(signal.SIGTERM, lambda number, frame: print("got", number, flush=True))
        os.kill(os.getpid(), signal.SIGTERM)
        print("and went on")
        """,
    )
    process = start(tmp_path, "app.py")
    assert process.communicate(timeout=60)[0] == "got 15\nand went on\n"
    assert process.returncode == 0


@pytest.mark.parametrize("pause_s", [0.001, 0.1])
def test_more_signals_cost_no_trace_and_no_exit_code(
    tmp_path, start, write, environment, processes_with, eventually, pause_s
):
    write(tmp_path, "app.py", PROGRAM)
    env = environment()
    process = start(tmp_path, "--python_memory_profile", "--workers=2", "app.py", env=env)
    eventually(lambda: len(list(tmp_path.glob("started-*"))) == 2)
    eventually(lambda: len(list(tmp_path.glob("*.dat"))) == 2)
    for trace in tmp_path.glob("*.dat"):
        trace.unlink()  # they must be shown again at the end
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(pause_s)  # an impatient person, who does not stop
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert "ended by SIGINT (exit code 130)" in err
    assert len(list(tmp_path.glob("*.dat"))) == 2
    assert (tmp_path / "runmem_runs/app_01/run.json").read_text().count('"exit_code": 130')
    eventually(lambda: not processes_with(env["RUNMEM_TEST_MARK"]))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_gets_the_signal_of_ctrl_c_alone_goes_on(tmp_path, runmem, write, workers):
    write(
        tmp_path,
        "app.py",
        """
        import os, signal, subprocess, sys, time
        from runmem import task, wait_on

        @task(returns=1)
        def where(k):
            return os.getpid()

        @task(returns=1)
        def interrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            code = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"  # what a task starts takes it
            started = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode
            pid = os.fork()
            if pid == 0:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(60)
                except KeyboardInterrupt:
                    os._exit(7)
            return os.getpid(), started, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        if __name__ == "__main__":
            for pid in set(wait_on([where(k) for k in range(8)])):
                os.kill(pid, signal.SIGINT)
            before = set(wait_on([where(k) for k in range(8)]))
            pid, started, forked = wait_on(interrupted())
            print(pid in before, started, forked)
        """,
    )
    ran = runmem(tmp_path, f"--workers={workers}", "app.py")
    assert (ran.code, ran.out) == (0, "True -2 7\n"), ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_program_begins_leaves_nothing(tmp_path, start, environment, processes_with, number):
    os.mkfifo(tmp_path / "app.py")  # runmem waits for the program to come through it
    (tmp_path / "spools").mkdir()
    env = environment(TMPDIR=str(tmp_path / "spools"))
    process = start(tmp_path, "--python_memory_profile", "app.py", env=env)
    with open(tmp_path / "app.py", "w"):  # which waits for that
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, f"runmem: ended by {number.name} before the program began\n")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["app.py", "spools"]
    assert not processes_with(env["RUNMEM_TEST_MARK"])
