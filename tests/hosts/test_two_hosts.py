"""Runs over two hosts: what is measured where, and what a cut network or a dead host costs."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401  # its defaults must be there before one is changed
import psutil
import pytest

import runmem
from runmem import task, wait_on
from runmem.clusters import remote_host
from runmem.formats.mprof import read_trace
from runmem.store.run import read_run
from runmem.units import MIB

PATIENCE_S = 90.0


@pytest.fixture
def options(hosts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote_host, "RECONNECT_PAUSES_S", (0.2, 0.2))
    return {
        "app": "suite", "hosts": "host1,host2", "ssh_command": hosts.ssh_command, "workers": 2,
        "worker_memory_bytes": 500 * MIB, "python_memory_profile": True,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _impatient_dask() -> Iterator[None]:
    """Let the scheduler give a host up after a few seconds and not after half a minute."""
    with dask.config.set({"distributed.comm.timeouts.tcp": "12s"}):
        yield


def readings(run: Any, node: str) -> list[float]:
    """Return the times of the readings of a node that the master has."""
    path = run.directory.traces / f"{node}.dat"
    return [float(time_s) for time_s in read_trace(path).times_s] if path.exists() else []


def largest_gap(times: list[float]) -> float:
    return max(after - before for before, after in zip(times, times[1:], strict=False))


def listening_beside(pid: int) -> set[tuple[str, int]]:
    """Return where somebody listens on the network of a process, over IPv4 and IPv6."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                address, _, port = words[1].partition(":")
                packed = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
                found.add((str(ipaddress.ip_address(packed)), int(port, 16)))
    return found


@task(returns=1)
def where(_):
    return socket.gethostname(), os.getpid()


@task(returns=1)
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.02)
    return socket.gethostname()


def test_each_host_has_its_trace_and_no_task_or_process_is_counted_twice(
    options: dict[str, Any], eventually: Callable[..., Any]
) -> None:
    with runmem.session(**options) as run:
        found = wait_on([where(i) for i in range(60)])
        eventually(lambda: readings(run, "host1") and readings(run, "host2"))
    data = read_run(run.directory.root)
    assert {host for host, _ in found} == {"host1", "host2"}
    assert sorted(record.task_id for record in data.records) == list(range(1, 61))
    assert {(record.node, record.pid) for record in data.records} == set(found)
    assert set(data.nodes) == {"host1", "host2"}
    assert data.provenance["lost"] == []
    for host, pid in set(found):
        trace = read_trace(run.directory.traces / f"{host}.dat")
        assert list(trace.children) == [f"worker-{pid}"]
    assert not [path for path in Path(f"/tmp/runmem-{os.getuid()}").glob(f"{run.run_id}*")]


def test_what_listens_on_the_network_of_the_hosts_wants_the_key_of_the_run(options: dict[str, Any], hosts: Any) -> None:
    with runmem.session(**options):
        wait_on(where(0))
        own = {place.laddr for place in psutil.Process().net_connections("inet") if place.status == psutil.CONN_LISTEN}
        found = {(place.ip, place.port) for place in own}.union(*(listening_beside(server) for server in hosts.servers))
        outside = [place for place in found if place[0] != "127.0.0.1" and place[1] != 22]
        assert {place[0] for place in outside} == {"10.77.0.1", "10.77.0.11", "10.77.0.12"}
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        for place in outside:
            connection = socket.create_connection(place, timeout=10)
            with pytest.raises(ssl.SSLError, match="(?i)certificate"), connection:
                trusting.wrap_socket(connection).recv(1)


def test_the_gap_of_a_cut_network_is_filled_when_it_is_mended(
    options: dict[str, Any], hosts: Any, eventually: Callable[..., Any]
) -> None:
    with runmem.session(**options) as run:
        wait_on([where(i) for i in range(20)])
        eventually(lambda: readings(run, "host1") and readings(run, "host2"))
        hosts.act("cut", 1)
        eventually(lambda: "host1" in run._remote.unreached())
        cut = readings(run, "host1")[-1]
        goes_on = readings(run, "host2")[-1]
        eventually(lambda: readings(run, "host2")[-1] > goes_on + 2)  # the other host is not held up
        assert readings(run, "host1")[-1] - cut < 1
        hosts.act("mend", 1)
        eventually(lambda: readings(run, "host1")[-1] > cut + 3)
        assert run._remote.unreached() == {}
        assert len(wait_on([where(i) for i in range(20)])) == 20
    assert largest_gap(readings(run, "host1")) < 2  # the network was away for longer
    assert read_run(run.directory.root).provenance["lost"] == []


def test_of_a_host_that_does_not_come_back_the_run_says_what_is_lost_and_from_when(
    options: dict[str, Any], hosts: Any, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with runmem.session(**options) as run:
        running = [wait_for(str(gate)) for _ in range(2)]
        eventually(lambda: readings(run, "host1") and readings(run, "host2"))
        hosts.act("cut", 1)
        cut_s = time.time()
        eventually(lambda: "host1" in run._remote.unreached())
        gate.touch()
        assert set(wait_on(running)) == {"host2"}  # what ran on host1 ran again
    data = read_run(run.directory.root)
    (lost,) = [entry for entry in data.provenance["lost"] if entry.startswith("host1: ")]
    since = re.search(r"not read since (\d\d:\d\d:\d\d) \(.+\): what it measured after that is not here", lost)
    assert since, lost
    assert abs(readings(run, "host1")[-1] - cut_s) < 3  # about a second of its trace is lost, or more on a busy machine
    assert not data.provenance["records_complete"]
    assert len([record for record in data.records if record.status == "finished"]) == 2


def test_a_host_that_dies_comes_back_with_its_trace_and_records(
    options: dict[str, Any], hosts: Any, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with runmem.session(**options) as run:
        running = [wait_for(str(gate)) for _ in range(2)]
        eventually(lambda: readings(run, "host1") and readings(run, "host2"))
        before = readings(run, "host1")
        died_s = time.time()
        hosts.kill(1)
        eventually(lambda: readings(run, "host1")[-1] > died_s + 1)  # it is back and measured again
        gate.touch()
        assert len(wait_on(running)) == 2
    after = readings(run, "host1")
    assert after[: len(before)] == before
    assert max(time_s for time_s in after if time_s < died_s) > died_s - 2
    assert {record.task_id for record in read_run(run.directory.root).records} == {1, 2}


def test_a_worker_started_by_hand_that_joins_late_and_leaves_early_is_measured_from_when_to_when(
    options: dict[str, Any], hosts: Any, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    with runmem.session(**{**options, "hosts": "host2", "workers": 1}) as run:
        wait_on(where(0))
        client = run._connect()[0]
        files = run._cluster._security.write(tmp_path / "tls")
        began_s = time.time()
        words = [sys.executable, "-P", "-m", "dask", "worker", client.scheduler.address]
        words += ["--tls-ca-file", str(files.ca), "--tls-cert", str(files.cert), "--tls-key", str(files.key)]
        words += ["--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--local-directory", str(tmp_path / "dask")]
        with subprocess.Popen(hosts.command(1, *words), stderr=subprocess.DEVNULL) as late:
            eventually(lambda: run._remote.workers() == 2)
            eventually(lambda: len(readings(run, "host1")) > 10 and {host for host, _ in wait_on([where(1), where(2)])})
            assert {host for host, _ in wait_on([where(i) for i in range(40)])} == {"host1", "host2"}
            left_s = time.time()
            late.terminate()
        eventually(lambda: run._remote.workers() == 1)
        assert {host for host, _ in wait_on([where(i) for i in range(10)])} == {"host2"}
    times = readings(run, "host1")
    data = read_run(run.directory.root)
    assert began_s < times[0]
    assert left_s - 3 < times[-1] < left_s + 15
    assert {"host1", "host2"} == set(data.nodes)
    assert data.provenance["lost"] == []  # the last worker there sent what was not read yet
    finished = [record for record in data.records if record.status == "finished"]
    assert {record.task_id for record in finished} == set(range(1, run.program.calls + 1))
