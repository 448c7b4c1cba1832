"""Runs that end before their tasks do: every task that ran has one true record, whatever ended the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from runmem.store.run import RunData, read_run

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from runmem import task, wait_on

def spin(seconds):
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        pass

@task(returns=1)
def work(number):
    Path(f"began-{number}").touch()
    spin(0.02 + 0.01 * (number % 5))
    Path(f"ended-{number}").touch()
    return number

@task(returns=1)
def short(number):
    fd = os.open("short", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"began %d\\n" % number)
    spin(0.001)
    os.write(fd, b"ended %d\\n" % number)
    os.close(fd)

@task(returns=1)
def add(before, number):
    work.run(number)
    return before + number

how, shape = sys.argv[1:]
if shape == "independent":
    results = [work(number) for number in range(1, 201)]
elif shape == "chain":
    results = [0]
    for number in range(1, 201):
        results.append(add(results[-1], number))
else:
    results = [short(number) for number in range(1, 20001)]
while len(list(Path().glob("ended-*"))) < 20 and not (Path("short").exists() and Path("short").stat().st_size > 20000):
    time.sleep(0.01)
if how == "raise":
    raise ValueError("no more")
elif how == "exit":
    sys.exit(7)
elif how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "lose the spool":
    import shutil, glob
    for folder in glob.glob(os.path.join(os.environ["TMPDIR"], "runmem-*", "*")):
        shutil.rmtree(folder, ignore_errors=True)
    time.sleep(1)
    sys.exit(7)
Path("ready").touch()
wait_on(results)
"""


def happened(folder: Path) -> tuple[set[int], set[int]]:
    """Return which calls began, and which of them ended, by what they themselves have left."""
    began = {int(path.name.partition("-")[2]) for path in folder.glob("began-*")}
    ended = {int(path.name.partition("-")[2]) for path in folder.glob("ended-*")}
    if (folder / "short").exists():
        for line in (folder / "short").read_text().splitlines():
            word, number = line.split()
            (began if word == "began" else ended).add(int(number))
    return began, ended


def check(run: RunData, folder: Path, status: str) -> None:
    """Assert that the records say what has happened: one for each task that began, finished or cut off."""
    began, ended = happened(folder)
    finished = {record.task_id for record in run.records if record.status == "finished"}
    cut_off = {record.task_id for record in run.records if record.status == status}
    assert finished | cut_off == {record.task_id for record in run.records}
    assert len(cut_off - began) <= 2  # its beginning is written down before the function says so, one a worker
    assert began <= finished | cut_off
    assert finished <= ended
    assert len(began - ended) <= 2
    # Between the end of the function and the line that says so lies next to nothing; one a worker can be there.
    assert len(ended - finished) <= 2


@pytest.mark.parametrize(
    ("how", "code", "shape"),
    [("raise", 1, "independent"), ("raise", 1, "chain"), ("exit", 7, "short")],
)
def test_a_program_that_fails_leaves_a_true_record_of_each_task(tmp_path, runmem, write, how, code, shape):
    write(tmp_path, "app.py", PROGRAM)
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=2", "app.py", how, shape)
    assert ran.code == code, ran.err
    run = read_run(ran.runs[0])
    check(run, tmp_path, "cancelled")
    cancelled = sum(record.status == "cancelled" for record in run.records)
    provenance = ran.provenance
    assert provenance["lost"] == []
    assert not provenance["records_complete"]
    assert provenance["calls_recorded"] == len({record.task_id for record in run.records})
    assert provenance["calls"] == provenance["calls_recorded"] + provenance["calls_not_begun"]
    said = f"the program ended with exit code {code}: {cancelled} task{'s' * (cancelled != 1)} that ran w"
    assert ran.err.count(said) == 1, ran.err


NEVER_RUN = """
from runmem import task, wait_on

@task(returns=1)
def fail(number):
    raise ValueError("no")

@task(returns=1)
def add(before):
    return before + 1

try:
    wait_on(add(add(fail(1))))
except ValueError:
    wait_on(add(1))
"""


@pytest.mark.parametrize("where", ["--workers=1", "--sequential"])
def test_calls_that_need_a_failed_one_are_counted_as_not_begun(tmp_path, runmem, write, where):
    write(tmp_path, "app.py", NEVER_RUN)
    ran = runmem(tmp_path, "--python_memory_profile", where, "app.py")
    assert ran.code == 0, ran.err
    provenance = ran.provenance
    assert [provenance[name] for name in ("calls", "calls_recorded", "calls_not_begun")] == [4, 2, 2]
    assert "2 task calls had not begun" in ran.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_true_record_of_each_task(tmp_path, start, write, number, eventually):
    write(tmp_path, "app.py", PROGRAM)
    process = start(tmp_path, "--python_memory_profile", "--workers=2", "app.py", "wait", "independent")
    eventually(lambda: (tmp_path / "ready").exists())
    os.kill(process.pid, number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    check(read_run(tmp_path / "runmem_runs" / "app_01"), tmp_path, "cancelled")
    assert err.count(f"runmem: the program was ended by {signal.Signals(number).name}: ") == 1


@pytest.mark.parametrize("shape", ["independent", "short"])
def test_a_killed_master_leaves_what_the_spool_of_its_host_has(
    tmp_path, runmem, write, environment, processes_with, eventually, shape
):
    write(tmp_path, "app.py", PROGRAM)
    (tmp_path / "spool").mkdir()
    env = environment(TMPDIR=str(tmp_path / "spool"))
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=2", "app.py", "kill", shape, env=env)
    assert ran.code == -signal.SIGKILL
    eventually(lambda: all("sampler.py" in command for command in processes_with(ran.mark).values()))
    check(read_run(ran.runs[0]), tmp_path, "killed")
    report = runmem(tmp_path, "report", "--tasks")
    assert report.code == 0, report.err
    assert report.out.count(" killed ") == sum(record.status == "killed" for record in read_run(ran.runs[0]).records)
    # On another host, or once the spool is gone, there is the copy, and it says what it may lack.
    shutil.rmtree(tmp_path / "spool")
    for record in read_run(ran.runs[0]).records:
        assert record.status == "finished" or "may have missed an end in the last second" in record.reason


def test_a_spool_that_was_removed_is_a_loss_and_kills_nobody(tmp_path, runmem, write, environment):
    write(tmp_path, "app.py", PROGRAM)
    (tmp_path / "spool").mkdir()
    env = environment(TMPDIR=str(tmp_path / "spool"))
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=2", "app.py", "lose the spool", "independent", env=env)
    assert ran.code == 7, ran.err
    assert "was removed or cut during the run" in " ".join(ran.provenance["lost"])
    assert not ran.provenance["records_complete"]
    assert {record.status for record in read_run(ran.runs[0]).records} <= {"finished", "running"}
    assert list(ran.runs[0].rglob("tasks-*.jsonl"))  # the copies stay where something may be missing
    assert "Traceback" not in ran.err


def test_records_are_complete_when_each_call_has_one(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        """
        from runmem import task, wait_on

        @task(returns=1)
        def halves(number):
            return 1 // number

        good = [halves(number) for number in range(1, 30)]
        bad = halves(0)
        after = [halves(bad) for _ in range(3)]  # they never run
        print(sum(wait_on(good)))
        try:
            wait_on(after)
        except ZeroDivisionError:
            print("no")
        """,
    )
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=2", "app.py")
    assert (ran.code, ran.out) == (0, "1\nno\n"), ran.err
    assert (ran.provenance["calls"], ran.provenance["calls_recorded"]) == (33, 30)
    assert not ran.provenance["records_complete"]
    assert ran.provenance["lost"] == []


def test_a_run_that_ended_well_keeps_each_record_once(tmp_path, runmem, write):
    write(
        tmp_path,
        "app.py",
        """
        import logging
        from runmem import task, wait_on
        from pycompss.functions.profile import profile

        logging.basicConfig()

        @task(returns=1)
        def square(number):
            return number * number

        @task(returns=1)
        @profile()
        def logs(number):
            logging.warning("number %d", number)
            return number

        print(sum(wait_on([square(number) for number in range(5000)])), wait_on(logs(1)))
        """,
    )
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=2", "app.py")
    assert ran.code == 0, ran.err
    (run,) = ran.runs
    assert len(ran.records) == 5001
    assert ran.provenance["records_complete"]
    assert not list(run.rglob("tasks-*.jsonl"))
    kept = {path.name for path in run.iterdir()}
    assert kept <= {"run.json", "tasks.jsonl", "traces", "profiles", "replica"}
    assert len(list((run / "profiles").iterdir())) == 1
    assert [path.name.partition("-")[0] for path in (run / "replica").rglob("*.jsonl")] in ([], ["logs"])
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file() and path.suffix == ".jsonl")
    fixed = len(str(tmp_path / "app.py")) + len(read_run(run).records[0].node)
    assert size / 5001 < 430 + fixed
    assert len(read_run(run).records) == 5001
    assert b'"name":"square"' in (run / "tasks.jsonl").read_bytes().splitlines()[17]


STOPPED = """
import json, os, signal, sys, time
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def process(number):
    time.sleep(0.3)
    return os.getpid()

@task()
def later(number):
    pass

first, second = sorted(set(wait_on([process(number) for number in range(12)])))[:2]
os.kill(first, signal.SIGSTOP)
os.kill(second, signal.SIGKILL)
stopped_s = time.time()
for number in range(200):
    later(number)
trace = next(path for path in Path().glob("runmem_runs/*/traces/*.dat") if not path.name.startswith("mprofile_"))
while True:  # the collection goes on, or the test ends this
    times = [float(line.split()[2]) for line in trace.read_text().splitlines() if line.startswith("MEM")]
    if times[-1] > stopped_s + 3:
        break
    time.sleep(0.1)
print("goes on")
sys.exit(3)
"""


def test_one_stopped_worker_and_the_death_of_another_do_not_hold_up_the_collection(
    tmp_path, runmem, write, processes_with, eventually
):
    write(tmp_path, "app.py", STOPPED)
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=3", "app.py")
    assert (ran.code, ran.out) == (3, "goes on\n"), ran.err
    eventually(lambda: not processes_with(ran.mark))
    assert json.loads((ran.runs[0] / "run.json").read_text())["exit_code"] == 3
