"""`--scheduler ADDRESS`: a cluster that somebody else started, with workers that fit and workers that do not."""

from __future__ import annotations

import copy
import platform
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import distributed
import pytest

from runmem.clusters.address import check_reachable, check_versions
from runmem.errors import ClusterError

PROGRAM = """
from runmem import task, wait_on

@task(returns=1)
def square(x):
    return x * x

if __name__ == "__main__":
    print(wait_on([square(i) for i in range(4)]))
"""
WORKER = """
import sys
sys.path += sys.argv[2:]
from distributed.cli.dask_worker import main
main([sys.argv[1], "--no-nanny", "--nthreads=1", "--no-dashboard", "--host=127.0.0.1", "--death-timeout=60"])
"""


@pytest.fixture
def scheduler():
    """Return the address of a Dask scheduler on loopback, and its cluster object; no worker yet."""
    with distributed.LocalCluster(
        n_workers=0, processes=False, host="127.0.0.1", protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def worker(tmp_path, environment):
    """Return a function that starts a worker as another user would, and ends it with the test."""
    started = []

    def start(address: str, *folders: str) -> None:
        """Start a worker from this environment, or from one that consists of the standard library and `folders`."""
        isolated = ["-S", "-E"] if folders else []
        command = [sys.executable, *isolated, "-c", WORKER, address, *folders]
        log = (tmp_path / "worker.log").open("w")
        started.append((subprocess.Popen(command, env=environment(), cwd=tmp_path, stdout=log, stderr=log), log))

    yield start
    for process, log in started:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture
def packages_without_runmem(tmp_path):
    """Return a folder with all that is installed here, except runmem."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(place).iterdir():
            if "runmem" not in path.name and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def free_port() -> Iterator[int]:
    """Return a port on which nobody listens: it is taken, so that nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def test_a_scheduler_that_is_not_there_is_told_before_anything_is_made(tmp_path, runmem, write, free_port):
    write(tmp_path, "app.py", "print('the program ran')")
    ran = runmem(
        tmp_path, "--python_memory_profile", f"--scheduler=tcp://127.0.0.1:{free_port}", "app.py", timeout_s=30
    )
    assert (ran.code, ran.out) == (2, "")
    assert f"--scheduler: no Dask scheduler answers at tcp://127.0.0.1:{free_port} (" in ran.err
    assert "dask scheduler" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]


def test_a_host_that_nobody_knows_is_told(tmp_path, runmem, write):
    write(tmp_path, "app.py", "print('the program ran')")
    ran = runmem(tmp_path, "--scheduler=tcp://no-such-host.invalid:8786", "app.py", timeout_s=60)
    assert (ran.code, ran.out) == (2, "")
    assert "no-such-host.invalid" in ran.err


def test_somebody_who_listens_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"tcp://127.0.0.1:{port}", f"tls://127.0.0.1:{port}"):
            check_reachable(address)
    with pytest.raises(ConnectionRefusedError):
        check_reachable(f"127.0.0.1:{port}")


def test_an_address_of_another_kind_is_left_to_dask():
    check_reachable("inproc://192.0.2.1/4711/1")


def test_a_worker_that_fits_runs_the_program_and_serves_on(tmp_path, runmem, write, scheduler, worker):
    write(tmp_path, "app.py", PROGRAM)
    worker(scheduler)
    for number in (1, 2):
        ran = runmem(tmp_path, "--python_memory_profile", "--scheduler", scheduler, "app.py")
        assert (ran.code, ran.out) == (0, "[0, 1, 4, 9]\n"), ran.err
        assert len(ran.records) == 4
        assert len(ran.runs) == number


FAILING = """
import os, signal, sys, time
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def process(number):
    return os.getpid()

@task(returns=1)
def work(number):
    Path(f"began-{number}").touch()
    time.sleep(0.1)
    Path(f"ended-{number}").touch()
    return number

worker = wait_on(process(0))
calls = [work(number) for number in range(100)]
while len(list(Path().glob("ended-*"))) < 5:
    time.sleep(0.01)
if "stop" in sys.argv:
    os.kill(worker, signal.SIGSTOP)
raise LookupError("no more")
"""


def test_workers_of_others_begin_no_other_call_of_a_program_that_fails(tmp_path, runmem, write, scheduler, worker):
    write(tmp_path, "failing.py", FAILING)
    write(tmp_path, "next.py", PROGRAM)
    worker(scheduler)
    ran = runmem(tmp_path, "--python_memory_profile", "--scheduler", scheduler, "failing.py")
    assert ran.code == 1, ran.err
    began = {int(path.name.partition("-")[2]) + 2 for path in tmp_path.glob("began-*")}
    finished = {record["task_id"] for record in ran.records if record["status"] == "finished"}
    cancelled = {record["task_id"] for record in ran.records if record["status"] == "cancelled"}
    assert finished | cancelled == began | {1}
    assert len(cancelled) <= 1
    assert len(began) < 80
    assert ran.provenance["lost"] == []
    # The worker has nothing of that run to do any more, and measures another.
    ran = runmem(tmp_path, "--python_memory_profile", "--scheduler", scheduler, "next.py")
    assert (ran.code, ran.out) == (0, "[0, 1, 4, 9]\n"), ran.err
    assert len(ran.records) == 4
    assert {int(path.name.partition("-")[2]) + 2 for path in tmp_path.glob("began-*")} == began


def test_a_stopped_worker_of_others_is_passed_by_and_named(tmp_path, runmem, write, scheduler, worker):
    write(tmp_path, "failing.py", FAILING)
    worker(scheduler)
    ran = runmem(tmp_path, "--python_memory_profile", "--scheduler", scheduler, "failing.py", "stop", timeout_s=120)
    assert ran.code == 1, ran.err
    assert "this worker did not answer when the run ended" in " ".join(ran.provenance["lost"])


@pytest.mark.parametrize(("installed", "theirs"), [(None, "lacks runmem"), ("0.0.9", "has runmem 0.0.9")])
def test_a_worker_without_runmem_or_with_another_is_named_with_both_versions(
    tmp_path, runmem, write, scheduler, worker, packages_without_runmem, installed, theirs
):
    try:
        ours = version("runmem")
    except PackageNotFoundError:
        pytest.skip("runmem runs from its source tree here: there is no installed version to compare")
    write(tmp_path, "app.py", PROGRAM)
    if installed is not None:
        metadata = f"Metadata-Version: 2.1\nName: runmem\nVersion: {installed}\n"
        write(packages_without_runmem, f"runmem-{installed}.dist-info/METADATA", metadata)
    worker(scheduler, str(packages_without_runmem))
    ran = runmem(tmp_path, "--python_memory_profile", "--scheduler", scheduler, "app.py")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("runmem: error: worker tcp://127.0.0.1:")
    assert theirs in ran.err
    assert ours in ran.err
    assert ran.runs == []


@pytest.fixture(scope="module")
def versions():
    """Return what a real scheduler and a real worker tell of their versions."""
    options = {"processes": False, "host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(n_workers=1, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        return client.get_versions(packages=["runmem"])


@pytest.mark.parametrize("place", ["scheduler", "workers"])
def test_another_python_is_named_with_ours(versions, place):
    check_versions(versions)
    changed = copy.deepcopy(versions)
    entry = changed["scheduler"] if place == "scheduler" else next(iter(changed["workers"].values()))
    entry["host"]["python"] = "3.9.1.final.0"
    with pytest.raises(ClusterError, match=r"has python 3\.9\.1 and this program has python ") as raised:
        check_versions(changed)
    assert platform.python_version() in str(raised.value)
    assert raised.value.exit_code == 2


TAKING_NAMES = """
import queue, yaml
from runmem import task, wait_on

@task(returns=1)
def made(thing):
    import calendar
    assert type(thing) is queue.Thing
    return calendar.Thing(thing.value + 1)

if __name__ == "__main__":
    found = wait_on(made(queue.Thing(1)))
    import calendar
    print(type(found) is calendar.Thing, found.value, wait_on(yaml.tripled(2)))
"""


def test_each_run_of_a_program_finds_its_modules_that_have_names_of_libraries(
    tmp_path, scheduler, worker, runmem, write
):
    thing = "class Thing:\n    def __init__(self, value):\n        self.value = value\n"
    write(tmp_path, "program/queue.py", thing)
    write(tmp_path, "program/calendar.py", thing)
    write(tmp_path, "program/yaml.py", "import runmem\n@runmem.task(returns=1)\ndef tripled(x):\n    return 3 * x\n")
    write(tmp_path, "program/app.py", TAKING_NAMES)
    worker(scheduler)
    for _ in range(2):
        ran = runmem(tmp_path, "--scheduler", scheduler, "program/app.py")
        assert (ran.code, ran.out) == (0, "True 2 6\n"), ran.err
