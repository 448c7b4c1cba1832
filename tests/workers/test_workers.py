from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runmem.clusters.hosts import Host, read_hosts
from runmem.formats.mprof import read_trace
from runmem.store.layout import safe_name
from runmem.store.run import read_run
from runmem.units import MIB

ROOT = Path(__file__).resolve().parents[2]
START_WORKER = ROOT / "workers" / "start_worker.sh"
LIMIT_BYTES = 700 * MIB
PATIENCE_S = 60

ENVIRONMENT = """
import os
import sys
from runmem import task, wait_on

@task(returns=1)
def read(name):
    return os.environ.get(name)

print(*wait_on([read(name) for name in sys.argv[1:]]))
"""


def end(process: subprocess.Popen[str]) -> None:
    """End a process of this test and its children."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def has_written(words: str, log: Path, process: subprocess.Popen[str]) -> bool:
    """Return True if the log of a process has `words`; fail when the process has ended without them."""
    has_ended = process.poll() is not None
    text = log.read_text()
    assert words in text or not has_ended, f"exit code {process.poll()}:\n{text}"
    return words in text


@pytest.fixture
def scheduler(tmp_path, eventually) -> Iterator[str]:
    """The address of a Dask scheduler on loopback."""
    log = tmp_path / "scheduler.log"
    told = tmp_path / "scheduler.json"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
             "--scheduler-file", str(told)],
            stdout=output, stderr=output, text=True,
        )  # fmt: skip
    try:
        eventually(lambda: has_written("Scheduler at:", log, process))
        yield json.loads(told.read_text())["address"]
    finally:
        end(process)


@pytest.fixture
def worker(tmp_path, scheduler, eventually) -> Iterator[Path]:
    """The log of a worker that workers/start_worker.sh started."""
    log = tmp_path / "worker.log"
    environment = {
        **os.environ, "PYTHON": sys.executable, "RUNMEM_WORKER_MEMORY": str(LIMIT_BYTES),
        "RUNMEM_ENV_SCRIPT": str(ROOT / "workers" / "env.sh"), "OMP_NUM_THREADS": "7",
    }  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(START_WORKER), scheduler, "--host", "127.0.0.1", "--local-directory", str(tmp_path)],
            stdout=output, stderr=output, text=True, env=environment,
        )  # fmt: skip
    try:
        eventually(lambda: has_written("Registered to:", log, process))
        yield log
    finally:
        end(process)


def runmem(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runmem", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def start_worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(START_WORKER), *arguments], env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_worker_started_by_hand_runs_and_measures_a_program(tmp_path, scheduler, worker):
    (tmp_path / "text.txt").write_text("one two two")
    done = runmem(
        tmp_path, "--scheduler", scheduler, "--python_memory_profile", ROOT / "examples" / "wordcount.py", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "3 words, 2 distinct" in done.stdout
    run = read_run(next(tmp_path.glob("runmem_runs/wordcount_*")))
    (record,) = run.records
    assert (record.target, record.status) == ("wordcount.count_words", "finished")
    assert record.limit_bytes == LIMIT_BYTES
    assert record.peak_bytes >= record.base_bytes > 0
    trace = read_trace(tmp_path / f"{safe_name(os.uname().nodename)}.dat")
    assert [name for name in trace.children if str(record.pid) in name]


def test_the_worker_has_the_host_in_its_name_one_thread_and_the_environment_of_its_script(tmp_path, scheduler, worker):
    (tmp_path / "environment.py").write_text(ENVIRONMENT)
    names = ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"]
    done = runmem(tmp_path, "--scheduler", scheduler, "environment.py", *names)
    assert done.stdout == "1 1 False\n", done.stderr
    log = worker.read_text()
    assert f"{os.uname().nodename}-" in log
    assert "Threads:                          1" in " ".join(log.splitlines())


def test_the_worker_is_not_started_by_a_python_without_runmem(tmp_path):
    (tmp_path / "runmem.py").write_text("raise ImportError('no runmem here')")
    done = start_worker("tcp://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "no runmem here" in done.stderr
    assert "set PYTHON to the interpreter that has it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "usage"),
        (["--help"], {}, "usage"),
        (["tcp://127.0.0.1:1"], {"PYTHON": "/nowhere/python"}, "there is no /nowhere/python here"),
        (["tcp://127.0.0.1:1"], {"RUNMEM_WORKER_MEMORY": "much"}, "RUNMEM_WORKER_MEMORY: 'much' is not an amount"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_started(arguments, environment, message):
    done = start_worker(*arguments, **environment)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_the_env_script_reaches_the_workers_of_the_embedded_cluster(tmp_path):
    (tmp_path / "environment.py").write_text(ENVIRONMENT)
    script = tmp_path / "env.sh"
    script.write_text((ROOT / "workers" / "env.sh").read_text() + "\nexport RUNMEM_TEST_OF_ENV='two words'\n")
    done = runmem(
        tmp_path, "--workers=1", f"--env_script={script}", "environment.py", "RUNMEM_TEST_OF_ENV", "OMP_NUM_THREADS"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "two words 1\n"


@pytest.mark.parametrize("name", ["start_worker.sh", "env.sh", "job.sbatch"])
def test_bash_takes_each_script(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "workers" / name)], check=True)


def test_the_hosts_file_is_one() -> None:
    assert read_hosts(str(ROOT / "workers" / "hosts")) == [Host("localhost", 2)]


def test_the_job_asks_for_what_runmem_submit_asks_for() -> None:
    """Compares the directives with those of `runmem submit` for the same options; tests/slurm runs jobs."""
    command = [sys.executable, "-m", "runmem", "submit", "--dry_run", "--num_nodes", "2", "--workers_per_node", "4"]
    command += ["--exec_time", "30", "--job_name", "runmem", "--worker_memory", "2GiB", "examples/wordcount.py"]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def directives(text: str) -> set[str]:
        found = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
        return {one.replace("9216M", "9G") for one in found if not one.startswith("--chdir")}

    job = (ROOT / "workers" / "job.sbatch").read_text()
    assert directives(job) == directives(written)
    before = job[: job.rindex("#SBATCH")]
    assert all(line.startswith("#") for line in before.splitlines())  # Slurm reads no further than the first command
    assert "--cluster allocation" in written
    assert "--cluster allocation" in job


@pytest.mark.parametrize(
    ("arguments", "python", "said"),
    [
        ([], sys.executable, "usage: sbatch job.sbatch"),
        (["app.py"], "/nowhere/python", "/nowhere/python on .* has no runmem: set PYTHON"),
        (["app.py"], sys.executable, "--cluster allocation: this is not a Slurm job"),
    ],
)
def test_a_job_that_cannot_run_says_why(tmp_path: Path, arguments: list[str], python: str, said: str) -> None:
    (tmp_path / "app.py").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment |= {"PYTHON": python, "RUNMEM_ENV_SCRIPT": str(ROOT / "workers" / "env.sh")}
    command = ["bash", str(ROOT / "workers" / "job.sbatch"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(said, done.stderr), done.stderr
