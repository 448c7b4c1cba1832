"""The contract of clusters; each kind is tested with real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

import runmem
from runmem import task, wait_on
from runmem.clusters import CLUSTERS, Cluster, cluster_for
from runmem.clusters.address import AddressCluster
from runmem.errors import ClusterError
from runmem.settings import resolve
from runmem.store.run import read_run
from runmem.units import MIB

MEMORY = 600 * MIB


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a scheduler and two workers on loopback as a user would; yield the scheduler's address."""
    folder = tmp_path_factory.mktemp("by_hand")
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    quiet = {**os.environ, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
    dask += ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    started = [subprocess.Popen(dask, cwd=folder, env=quiet, stderr=subprocess.PIPE, text=True)]
    try:
        address = None
        while address is None:
            line = started[0].stderr.readline()
            assert line, "the scheduler ended"
            found = re.search(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)", line)
            address = found.group(1) if found else None
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--nworkers", "2"]
        command += ["--host", "127.0.0.1", "--memory-limit", str(MEMORY), "--local-directory", str(folder)]
        command += ["--dashboard-address", "127.0.0.1:0"]
        with (folder / "workers.log").open("w") as log:
            started.append(subprocess.Popen(command, cwd=folder, env=quiet, stdout=log, stderr=log))
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in reversed(started):
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()
        started[0].stderr.close()


@pytest.fixture(scope="module", params=sorted(CLUSTERS))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings of each kind of cluster."""
    if request.param == "local":
        return {"workers": 2, "worker_memory_bytes": MEMORY}
    if request.param == "ssh":
        request.getfixturevalue("python")
        command = request.getfixturevalue("ssh_server").command
        return {"hosts": "near", "ssh_command": command, "workers": 2, "worker_memory_bytes": MEMORY}
    if request.param != "address":
        pytest.skip(f"kind {request.param} needs a batch system; what it is given is tested beside this file")
    return {"scheduler": request.getfixturevalue("scheduler")}


@pytest.fixture(scope="module")
def cluster(options: dict[str, Any]) -> Iterator[Cluster]:
    """Return a cluster of each kind, for tests that do not change it."""
    cluster = cluster_for(resolve(options))
    yield cluster
    cluster.close()


def test_each_kind_is_chosen_by_the_settings(cluster: Cluster, options: dict[str, Any]) -> None:
    assert CLUSTERS[cluster.kind] is type(cluster)
    assert cluster.kind == ("address" if "scheduler" in options else "ssh" if "hosts" in options else "local")


def test_connect_gives_a_client_whose_workers_work(cluster: Cluster) -> None:
    client = cluster.connect()
    workers = client.scheduler_info(n_workers=-1)["workers"]
    assert len(workers) == 2
    assert client.submit(os.getpid).result() != os.getpid()
    with pytest.raises(ValueError, match="No global client found"):
        distributed.get_client()  # ours is not in the way of the program's own


def test_each_worker_has_one_thread_and_its_memory_limit(cluster: Cluster) -> None:
    workers = cluster.connect().scheduler_info(n_workers=-1)["workers"].values()
    assert [worker["nthreads"] for worker in workers] == [1, 1]
    assert [worker["memory_limit"] for worker in workers] == [MEMORY, MEMORY]


def test_everything_listens_on_loopback_only(cluster: Cluster) -> None:
    client = cluster.connect()
    pids = {os.getpid(), *client.run(os.getpid).values(), *client.run(os.getpid, nanny=True).values()}
    pids.add(client.run_on_scheduler(os.getpid))
    listening = [
        connection.laddr.ip
        for pid in pids
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert set(listening) == {"127.0.0.1"}


def test_close_may_be_called_without_connect(options: dict[str, Any]) -> None:
    before = psutil.Process().children(recursive=True)
    never = cluster_for(resolve(options))
    never.close()
    never.close()
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def test_close_ends_what_connect_started_and_nothing_else_and_may_be_called_twice(options: dict[str, Any]) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    cluster = cluster_for(resolve(options))
    client = cluster.connect()
    cluster.close()
    cluster.close()
    assert client.status == "closed"
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    _, alive = psutil.wait_procs([process for process in left if not _is_tracker(process)], timeout=60)
    assert alive == []
    if "scheduler" in options:
        with distributed.Client(options["scheduler"], set_as_default=False, timeout=10) as client:
            assert len(client.scheduler_info(n_workers=-1)["workers"]) == 2


def _is_tracker(process: psutil.Process) -> bool:
    """Return True for the resource tracker of multiprocessing, which runs until the program ends."""
    with suppress(psutil.Error):
        return "resource_tracker" in " ".join(process.cmdline())
    return False


def test_a_session_gives_results_and_records(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(returns=1)
    def double(x):
        return 2 * x

    monkeypatch.chdir(tmp_path)
    for number in (1, 2):  # a cluster that was there before serves a second run too
        with runmem.session(app="suite", python_memory_profile=True, **options) as run:
            assert wait_on([double(i) for i in range(20)]) == [2 * i for i in range(20)]
        data = read_run(run.directory.root)
        assert run.directory.root.name == f"suite_0{number}"
        assert sorted(record.task_id for record in data.records) == list(range(1, 21))
        assert {record.method for record in data.records} == {"hwm"}
        assert {record.limit_bytes for record in data.records} == {MEMORY}
        assert data.provenance["lost"] == []
        assert data.provenance["workers"] == 2
        assert len(data.traces) == 2


def test_a_worker_is_left_as_it_was(scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @task(returns=1)
    def one():
        return 1

    monkeypatch.chdir(tmp_path)
    with runmem.session(app="suite", python_memory_profile=True, scheduler=scheduler):
        wait_on(one())
    with distributed.Client(scheduler, set_as_default=False) as client:
        found = client.run(lambda dask_worker: [str(name) for name in dask_worker.plugins])
    assert len(found) == 2
    assert [name for names in found.values() for name in names if "runmem" in name] == []


def test_an_address_where_nobody_answers_is_told_with_what_to_do() -> None:
    cluster = cluster_for(resolve({"scheduler": "tcp://127.0.0.1:9"}))
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*`dask scheduler`"):
        cluster.connect()
    cluster.close()


def test_a_scheduler_without_workers_is_told_with_what_to_do() -> None:
    with distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", processes=False, protocol="tcp"
    ) as empty:
        cluster = AddressCluster(resolve({"scheduler": empty.scheduler.address}), timeout_s=0.5)
        with pytest.raises(ClusterError, match=r"has no worker after .*dask worker"):
            cluster.connect()
