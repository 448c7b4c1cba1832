from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

import runmem
from runmem import task, wait_on
from runmem.clusters import Cluster, cluster_for, remote_host
from runmem.clusters.certificate import make_certificate
from runmem.clusters.remote_host import remote_command
from runmem.clusters.security import TlsSecurity
from runmem.errors import ClusterError, SettingError
from runmem.settings import resolve
from runmem.store.node_name import node_name
from runmem.store.run import read_run
from runmem.units import MIB

MEMORY = 500 * MIB
PATIENCE_S = 60.0

SQUARES = """
import os
from runmem import task, wait_on

@task(returns=1)
def square(x):
    return x * x, os.environ.get("OF_THE_SCRIPT"), os.getcwd()

for found in wait_on([square(i) for i in range(4)]):
    print(*found)
"""
ENDLESS = """
import time
from runmem import task, wait_on

@task(returns=1)
def sleep():
    print("asleep", flush=True)
    time.sleep(600)

wait_on([sleep(), sleep()])
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runmem", *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=120)


def on_the_host(server: Any) -> list[psutil.Process]:
    """Return the processes started by connections of this server."""
    return psutil.Process(server.pid).children(recursive=True)


@pytest.fixture(scope="module")
def options(ssh_server: Any, python: str) -> dict[str, Any]:
    return {"hosts": "near,far", "ssh_command": ssh_server.command, "workers": 2, "worker_memory_bytes": MEMORY}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(SQUARES)
    return path


def test_a_program_runs_on_the_hosts_in_its_folder_with_its_script(
    ssh_server: Any, python: str, tmp_path: Path, program: Path
) -> None:
    (tmp_path / "env.sh").write_text("# it's \"quoted\"\nread line || true\nexport OF_THE_SCRIPT='two  words'\n")
    (tmp_path / "hosts").write_text("near workers=2  # two\nfar workers=1\n")
    done = run(
        tmp_path, "--python_memory_profile", "--hosts=./hosts", f"--ssh_command={ssh_server.command}",
        "--env_script=env.sh", "app.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{i * i} two  words {tmp_path}" for i in range(4)]
    data = read_run(next(tmp_path.glob("runmem_runs/*")))
    assert data.provenance["workers"] == 3
    assert data.provenance["cluster"] == "ssh"
    assert data.provenance["lost"] == []
    assert {record.node for record in data.records} == {node_name()}  # two ways to one machine are one node
    assert list(data.nodes) == [node_name()]
    assert sorted(path.name for path in data.traces) == sorted([f"{node_name()}.dat", data.traces[0].name])


def test_nothing_is_left_on_the_hosts(options: dict[str, Any], ssh_server: Any) -> None:
    cluster = cluster_for(resolve(options))
    cluster.connect()
    assert len(on_the_host(ssh_server)) > 4
    started = on_the_host(ssh_server)
    cluster.close()
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []


def test_the_workers_end_when_the_master_is_killed(ssh_server: Any, python: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(ENDLESS)
    arguments = ["--hosts=near", "--workers=2", f"--ssh_command={ssh_server.command}", "app.py"]
    with subprocess.Popen(command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as master:
        assert master.stdout.readline() == "asleep\n"
        started = on_the_host(ssh_server)
        master.send_signal(signal.SIGKILL)
    assert len(started) > 3
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []


def test_ctrl_c_ends_the_run_and_the_workers(ssh_server: Any, python: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(ENDLESS)
    arguments = ["--hosts=near", "--workers=2", f"--ssh_command={ssh_server.command}", "app.py"]
    with subprocess.Popen(
        command(*arguments), cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as master:
        assert master.stdout.readline() == "asleep\n"
        started = on_the_host(ssh_server)
        os.killpg(master.pid, signal.SIGINT)
        assert master.wait(PATIENCE_S) == 130
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []


@pytest.fixture(scope="class")
def cluster(options: dict[str, Any]) -> Iterator[Cluster]:
    cluster = cluster_for(resolve(options))
    cluster.connect()
    yield cluster
    cluster.close()


class TestARunThatOthersLookAt:
    """Tests that share one cluster, which ends after them, because other tests count the processes on the hosts."""

    @pytest.fixture
    def listening(self, cluster: Cluster, ssh_server: Any) -> list[tuple[str, int]]:
        """Return all listening addresses of a run: scheduler, nannies and workers."""
        client = cluster.connect()
        processes = [psutil.Process(), *on_the_host(ssh_server)]
        dashboard = int(re.search(r":(\d+)/", client.dashboard_link)[1])
        found = [
            (connection.laddr.ip, connection.laddr.port)
            for process in processes
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        return [place for place in found if place[1] != dashboard]

    def test_nobody_without_the_key_of_the_run_is_served(self, listening: list[tuple[str, int]]) -> None:
        assert len(listening) >= 5  # the scheduler, two nannies, two workers
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        refusals = {}
        for place in listening:
            connection = socket.create_connection(place, timeout=2)
            try:
                with connection, trusting.wrap_socket(connection) as talking:
                    talking.recv(1)
                raise AssertionError(f"{place} talks to somebody without a certificate")
            except ssl.SSLError as error:
                refusals[place] = str(error)
            except ConnectionResetError:
                refusals[place] = "reset"
            except TimeoutError:  # it waits for a request, and knows no TLS
                refusals[place] = "HTTP_REQUEST"
        another_run = TlsSecurity(*make_certificate()).dask()
        http = [place for place, reason in refusals.items() if re.search("WRONG_VERSION_NUMBER|HTTP_REQUEST", reason)]
        assert {place[0] for place in http} <= {"127.0.0.1"}  # a worker's page of numbers: on loopback
        for host, port in [place for place in listening if place not in http]:
            for protocol, security in (("tcp", None), ("tls", another_run)):
                with pytest.raises((OSError, TimeoutError, ValueError)):
                    distributed.Client(
                        f"{protocol}://{host}:{port}", security=security, timeout=0.5, set_as_default=False
                    )

    def test_the_key_is_in_no_command_line_and_no_environment(self, cluster: Cluster, ssh_server: Any) -> None:
        seen = [" ".join(process.cmdline()) + str(process.environ()) for process in on_the_host(ssh_server)]
        assert len([text for text in seen if "node_workers" in text]) >= 2
        assert [text for text in seen if "PRIVATE KEY" in text or "BEGIN CERT" in text] == []


def test_a_host_that_loses_its_connection_comes_back(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    @task(returns=1)
    def pid(_):
        return os.getpid()

    monkeypatch.setattr(remote_host, "RECONNECT_PAUSES_S", (0.1, 0.1))
    monkeypatch.chdir(tmp_path)
    with runmem.session(app="suite", python_memory_profile=True, **options) as current:
        before = set(wait_on([pid(i) for i in range(20)]))
        ssh = [child for child in psutil.Process().children() if child.name() == "ssh"]
        assert len(ssh) == 2
        ssh[0].kill()
        client = current._connect()[0]

        def is_replaced() -> bool:
            living = set(client.run(os.getpid, on_error="ignore").values())
            return len(living) == 2 and not living <= before

        eventually(is_replaced)
        assert len(wait_on([pid(i) for i in range(40)])) == 40
    data = read_run(current.directory.root)
    assert {record.task_id for record in data.records} == set(range(1, 61))  # lost results were computed again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": "near,dead"}, r"--hosts: dead: ssh could not connect, exit code 255: .*Connection refused"),
        ({"hosts": "locked,near"}, r"--hosts: locked: ssh could not connect, exit code 255: .*Permission denied"),
        ({"hosts": "no-such-host.invalid"}, r"--hosts: no-such-host.invalid: .* cannot be found from here"),
        ({"hosts": "near", "remote_python": "/nowhere/py"}, r"near: no worker .*/nowhere/py.*\n  --remote_python"),
        ({"hosts": "near", "remote_python": "true"}, r"near: no worker was started there, exit code 0"),
        ({"hosts": "near", "master_address": "192.0.2.1"}, r"cannot"),
    ],
)  # fmt: skip
def test_a_host_that_cannot_take_part_is_told_with_the_words_of_ssh(
    ssh_server: Any, python: str, options: dict[str, Any], message: str
) -> None:
    cluster = cluster_for(resolve({"ssh_command": ssh_server.command, **options}))
    with pytest.raises(ClusterError, match=f"(?s){message}") as raised:
        cluster.connect()
    assert raised.value.exit_code == 2
    assert psutil.wait_procs(on_the_host(ssh_server), timeout=PATIENCE_S)[1] == []


def test_a_script_that_fails_stops_the_run_with_its_output(ssh_server: Any, python: str, tmp_path: Path) -> None:
    (tmp_path / "env.sh").write_text("echo about to fail; false; echo not reached\n")
    cluster = cluster_for(
        resolve({"hosts": "near", "ssh_command": ssh_server.command, "env_script": tmp_path / "env.sh"})
    )
    with pytest.raises(ClusterError, match=r"(?s)about to fail.*--env_script failed on") as raised:
        cluster.connect()
    assert "not reached" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "ssh"}, "--cluster ssh needs --hosts"),
        ({"hosts": "a", "cluster": "local"}, "--cluster local and --hosts select different clusters"),
        ({"hosts": "a", "scheduler": "tcp://127.0.0.1:1"}, "--scheduler and --hosts select different clusters"),
        ({"hosts": "a", "ssh_command": "/nowhere/ssh"}, "--ssh_command: there is no '/nowhere/ssh' here"),
        ({"hosts": "a", "ssh_command": "'"}, "--ssh_command: .* cannot be used"),
        ({"hosts": "a", "env_script": "/nowhere/env.sh"}, "--env_script: '/nowhere/env.sh' cannot be read"),
        ({"hosts": "a", "tls_ca": "/nowhere/ca.pem"}, "--tls_cert, --tls_key: missing"),
        ({"cluster": "moon"}, "--cluster: there is no kind 'moon'; the kinds are address, "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_before_anything_is_started(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        cluster_for(resolve(options))


def test_the_command_survives_any_shell_and_any_folder() -> None:
    folder = "/a b/it's $HOME"
    words = remote_command("/opt/my python", folder)
    assert "!" not in words  # csh
    assert "\n" not in words
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True).stdout
    assert shown.splitlines()[-2:] == ["/opt/my python", folder]
