"""The spools of nodes that are reached through Dask; each node is a worker process here with another name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import pytest

from runmem.collection.pace import WantedInterval
from runmem.collection.remote_nodes import RemoteNodes
from runmem.collection.spool_reader import SpoolNews
from runmem.node.interval import read_interval
from runmem.node.members import join

RUN = "run-1"
pytestmark = pytest.mark.slow


@pytest.fixture
def client() -> Iterator[distributed.Client]:
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def start_node(client: distributed.Client, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts nodes with these names and returns their processes."""
    started: list[subprocess.Popen[bytes]] = []
    command = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--no-nanny"]

    def start(*names: str) -> list[subprocess.Popen[bytes]]:
        before = len(client.scheduler_info()["workers"])
        for name in names:
            environment = {**os.environ, "RUNMEM_NODE_NAME": name, "TMPDIR": str(tmp_path)}
            options = ["--nthreads=1", "--no-dashboard", "--host=127.0.0.1", f"--local-directory={tmp_path / name}"]
            started.append(subprocess.Popen([*command, *options], env=environment, stderr=subprocess.DEVNULL))
        client.wait_for_workers(before + len(names), timeout=60)
        return started[-len(names) :]

    yield start
    for process in started:
        process.kill()
        process.wait()


def spool_of(name: str, tmp_path: Path) -> Path:
    folder = tmp_path / f"runmem-{os.getuid()}" / f"{RUN}.{name}"
    (folder / "members").mkdir(parents=True, exist_ok=True)
    return folder


def append(spool: Path, text: bytes) -> None:
    with (spool / "tasks-5.jsonl").open("ab") as file:
        file.write(text)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_nodes_are_read_whichever_of_them_answer(
    client: distributed.Client,
    start_node: Callable[..., list[subprocess.Popen[bytes]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., object],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("a", "b", "c")
    _, stopped, ended = start_node(*names)
    spools = {name: spool_of(name, tmp_path) for name in names}
    nodes = RemoteNodes(client, RUN, 0.05, at_once=1)
    offsets: dict[str, dict[str, int]] = {}
    got: dict[str, bytes] = dict.fromkeys(names, b"")

    def read(wanted: WantedInterval | None = None) -> set[str]:
        """Read once; return the nodes that answered."""
        answered = set()
        for name, news in nodes.read(offsets, lambda _: {}, wanted):
            assert isinstance(news, SpoolNews)
            answered.add(name)
            for file, (begin, data) in news.files.items():
                if file == "tasks-5.jsonl":
                    assert begin == offsets.setdefault(name, {}).get(file, 0)
                    offsets[name][file] = begin + len(data)
                    got[name] += data
        return answered

    for name, spool in spools.items():
        append(spool, name.encode() + b" 1\n")
        join(spool, os.getpid(), f"{name}.dat", "worker-5", "app")
    eventually(lambda: read() == set(names))
    assert got == {name: name.encode() + b" 1\n" for name in names}

    wanted = WantedInterval(0.2, "there are so many")
    assert read(wanted) == set(names)
    assert {name: read_interval(str(spool)) for name, spool in spools.items()} == dict.fromkeys(names, tuple(wanted))
    for name, spool in spools.items():
        trace = spool / f"{name}.dat"
        eventually(lambda trace=trace: trace.exists() and b"NOTE there are so many\n" in trace.read_bytes())

    os.kill(stopped.pid, signal.SIGSTOP)
    for spool in spools.values():
        append(spool, b"2\n")
    assert read() == {"a", "c"}
    assert nodes.unreached().keys() == {"b"}
    os.kill(stopped.pid, signal.SIGCONT)
    eventually(lambda: "b" in read())
    assert got == {name: name.encode() + b" 1\n2\n" for name in names}
    assert nodes.unreached() == {}

    ended.kill()
    ended.wait()
    start_node("c")
    append(spools["c"], b"3\n")
    eventually(lambda: "c" in read())
    assert got["c"] == b"c 1\n2\n3\n"
    nodes.end(remove=True)
    assert not any(spool.exists() for spool in spools.values())
