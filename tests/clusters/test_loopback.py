"""Connections of one user on loopback; test_address_security.py has those of a second user."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import dask
import distributed
import pytest

from runmem.clusters import loopback
from runmem.clusters.local import EmbeddedCluster
from runmem.clusters.loopback import can_look_up_owners, listener_owner, peer_owner
from runmem.settings import resolve

pytestmark = pytest.mark.skipif(not can_look_up_owners(), reason="the kernel does not tell here whose a connection is")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection on loopback: the connecting and the accepting end."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as asking:
        accepted, _ = server.accept()
        with accepted:
            yield asking, accepted


def test_a_process_of_ours_is_known_at_either_end(ends: tuple[socket.socket, socket.socket]) -> None:
    asking, accepted = ends
    assert peer_owner(accepted) == os.geteuid()
    assert listener_owner(asking) == os.geteuid()


def test_who_sends_and_closes_at_once_is_nobody_of_ours(ends: tuple[socket.socket, socket.socket]) -> None:
    asking, accepted = ends
    asking.sendall(b"something to unpickle")
    asking.close()  # the kernel has no owner for it any more, and gives root's number
    assert peer_owner(accepted) is None


def test_who_sends_and_resets_is_nobody_of_ours(ends: tuple[socket.socket, socket.socket]) -> None:
    asking, accepted = ends
    asking.sendall(b"something to unpickle")
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asking.close()
    with pytest.raises(OSError, match="not connected"):
        peer_owner(accepted)


STRANGER = """
import encodings.idna, os, socket, sys  # the first for socket, which could not read it as somebody else
os.setgroups([]); os.setgid(12345); os.setuid(12345)
if sys.argv[1] == "connects":
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as connection:
        print("there", flush=True); sys.stdin.read()
else:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True); sys.stdin.read()
"""


@contextmanager
def stranger(*words: str) -> Iterator[str]:
    """Run a process of another user during the block, and yield the line that it printed."""
    command = [sys.executable, "-c", STRANGER, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline()
        process.communicate()
        assert process.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_a_process_of_another_user_is_known_at_either_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, stranger("connects", str(server.getsockname()[1])):
        server.settimeout(30)
        accepted, _ = server.accept()
        with accepted:
            assert peer_owner(accepted) == 12345
    with stranger("listens") as port, socket.create_connection(("127.0.0.1", int(port))) as asking:
        assert listener_owner(asking) == 12345


def test_where_only_a_listener_is_left_the_peer_is_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    """The kernel returns the listener of a port if no connection has the requested ends."""
    asking, accepted = ends
    gone = SimpleNamespace(
        getpeername=asking.getpeername, getsockname=lambda: ("127.0.0.1", 9), getsockopt=asking.getsockopt
    )
    assert peer_owner(gone) is None
    assert listener_owner(asking) == os.geteuid()
    assert listener_owner(accepted) is None


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(resolve({"workers": 2}))
    assert cluster.connect() is cluster.connect()
    yield cluster
    cluster.close()


def test_the_embedded_cluster_speaks_it_between_all_its_parts(cluster: EmbeddedCluster) -> None:
    client = cluster.connect()
    info = client.scheduler_info(n_workers=-1)
    places = [client.scheduler.address, *info["workers"], *(worker["nanny"] for worker in info["workers"].values())]
    assert {place.partition("://")[0] for place in places} == {"loopback"}

    def from_within() -> int:
        with distributed.worker_client() as inner:
            return int(inner.submit(sum, [1, 2]).result())

    first, second = info["workers"]
    one = client.submit(bytes, 10**6, workers=[first])
    assert client.submit(len, one, workers=[second]).result() == 10**6  # from worker to worker
    assert client.submit(from_within, pure=False).result() == 3
    assert client.run(os.getpid, nanny=True, workers=[first]) == {first: os.getpid()}


def test_it_is_the_owner_that_counts_and_not_what_is_spoken(cluster: EmbeddedCluster) -> None:
    """Shows that the owner is the only reason for the rejection: the same client works for the right user."""
    place = cluster.connect().scheduler.address.rpartition("/")[2]
    with distributed.Client(f"tcp://{place}", timeout=10, set_as_default=False) as client:
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize("owner", [os.geteuid() + 1, None])
def test_whoever_is_not_ours_is_closed_before_a_byte_is_read(
    cluster: EmbeddedCluster, owner: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = cluster.connect().scheduler.address
    monkeypatch.setattr(loopback, "peer_owner", lambda connection: owner)
    host, port = address.rpartition("/")[2].split(":")
    with caplog.at_level(logging.WARNING, loopback.log.name), socket.create_connection((host, int(port))) as raw:
        raw.settimeout(30)
        assert raw.recv(1) == b""
    assert ("refused" in caplog.text) == (owner is not None)


def test_nothing_is_said_to_a_listener_of_somebody_else(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cluster.connect().scheduler.address.rpartition("/")[2]
    monkeypatch.setattr(loopback, "listener_owner", lambda connection: os.geteuid() + 1)
    with pytest.raises(ConnectionRefusedError, match="belongs to another user"):
        asyncio.run(loopback.LoopbackBackend().get_connector().connect(place))


def test_a_worker_that_is_started_again_speaks_it_too(cluster: EmbeddedCluster) -> None:
    client = cluster.connect()
    before = set(client.run(os.getpid).values())
    client.restart()
    assert set(client.run(os.getpid).values()).isdisjoint(before)


def test_where_the_kernel_does_not_tell_it_is_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(connection: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "sock_diag: this kernel does not know the request")

    monkeypatch.setattr(loopback, "peer_owner", refuse)
    assert not can_look_up_owners()
    cluster = EmbeddedCluster(resolve({"workers": 1}))
    try:
        assert cluster.connect().scheduler.address.startswith("tls://127.0.0.1:")
    finally:
        cluster.close()


def test_what_the_user_has_workers_import_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preload = tmp_path / "first.py"
    preload.write_text("import os\nos.environ['RUNMEM_TEST_FIRST'] = 'imported'\n")
    cluster = EmbeddedCluster(resolve({"workers": 1}))
    try:
        with dask.config.set({"distributed.worker.preload": str(preload)}):
            client = cluster.connect()
        assert set(client.run(os.getenv, "RUNMEM_TEST_FIRST").values()) == {"imported"}
    finally:
        cluster.close()


def test_it_costs_a_program_without_tasks_no_import_of_dask() -> None:
    code = "import sys, runmem.clusters; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd="/").returncode == 0
