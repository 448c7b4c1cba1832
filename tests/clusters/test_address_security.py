"""A running scheduler, with and without TLS, by its address and by its file."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

import runmem
from runmem import task, wait_on
from runmem.clusters import cluster_for
from runmem.clusters.certificate import make_certificate
from runmem.clusters.security import TlsFiles, TlsSecurity
from runmem.errors import ClusterError, SettingError
from runmem.settings import resolve
from runmem.store.layout import Spool


@pytest.fixture(scope="module")
def security() -> TlsSecurity:
    return TlsSecurity(*make_certificate())


@pytest.fixture(scope="module")
def files(security: TlsSecurity, tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return security.write(tmp_path_factory.mktemp("tls") / "run")


def local(**options: Any) -> distributed.LocalCluster:
    return distributed.LocalCluster(
        n_workers=1, processes=False, host="127.0.0.1", dashboard_address="127.0.0.1:0", **options
    )


@pytest.fixture(scope="module")
def encrypted(security: TlsSecurity) -> Iterator[str]:
    with local(security=security.dask(), protocol="tls") as cluster:
        yield cluster.scheduler_address


def given(files: TlsFiles) -> dict[str, Path]:
    return {"tls_ca": files.ca, "tls_cert": files.cert, "tls_key": files.key}


def test_the_files_of_the_options_let_us_in(encrypted: str, files: TlsFiles) -> None:
    cluster = cluster_for(resolve({"scheduler": encrypted, **given(files)}))
    assert cluster.connect().submit(sum, [1, 2]).result() == 3
    cluster.close()


def test_dasks_own_configuration_lets_us_in(encrypted: str, files: TlsFiles) -> None:
    import dask

    tls = {"ca-file": str(files.ca), "client": {"cert": str(files.cert), "key": str(files.key)}}
    with dask.config.set({"distributed.comm.tls": {**dask.config.get("distributed.comm.tls"), **tls}}):
        cluster = cluster_for(resolve({"scheduler": encrypted}))
        assert cluster.connect().submit(sum, [1, 2]).result() == 3
        cluster.close()


def test_without_files_we_are_told_which_are_needed(encrypted: str) -> None:
    with pytest.raises(SettingError, match="needs certificates: give --tls_ca, --tls_cert and --tls_key"):
        cluster_for(resolve({"scheduler": encrypted})).connect()


def test_files_of_another_authority_are_told(encrypted: str, tmp_path: Path) -> None:
    others = TlsSecurity(*make_certificate()).write(tmp_path / "tls")
    with pytest.raises(ClusterError, match="and this program failed"):
        cluster_for(resolve({"scheduler": encrypted, **given(others)})).connect()


def test_a_certificate_that_only_the_scheduler_refuses_is_told(
    encrypted: str, security: TlsSecurity, tmp_path: Path
) -> None:
    _, cert, key = make_certificate()
    others = TlsSecurity(security.ca, cert, key).write(tmp_path / "tls")
    with pytest.raises(ClusterError, match="and this program failed"):
        cluster_for(resolve({"scheduler": encrypted, **given(others)})).connect()


def test_tls_to_a_scheduler_without_it_is_told(files: TlsFiles) -> None:
    with local(protocol="tcp") as cluster:
        address = cluster.scheduler_address.replace("tcp", "tls")
        with pytest.raises(ClusterError, match=r"--scheduler: .*tls://127.0.0.1"):
            cluster_for(resolve({"scheduler": address, **given(files)})).connect()


def test_the_file_of_a_scheduler_names_it(tmp_path: Path, files: TlsFiles, encrypted: str) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"type": "Scheduler", "address": encrypted}))
    cluster = cluster_for(resolve({"scheduler_file": path, **given(files)}))
    assert cluster.connect().scheduler.address == encrypted
    cluster.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file.*dask scheduler --scheduler-file"),
        ("", "has no address: it was not written by"), ("[]", "has no address"), ("{}", "has no address"),
    ],
)  # fmt: skip
def test_a_scheduler_file_that_cannot_be_used_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "scheduler.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingError, match=f"--scheduler_file: {path} {message}") as raised:
        cluster_for(resolve({"scheduler_file": path})).connect()
    assert raised.value.exit_code == 2


def test_an_address_and_a_file_are_one_too_many() -> None:
    with pytest.raises(SettingError, match="give either --scheduler or --scheduler_file"):
        cluster_for(resolve({"scheduler": "tcp://127.0.0.1:1", "scheduler_file": "a"}))
    with pytest.raises(SettingError, match="give either --scheduler or --scheduler_file"):
        cluster_for(resolve({"cluster": "address"}))


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "192.0.2.1:8786", "ws://192.0.2.1:8786"])
def test_a_scheduler_on_a_network_without_tls_is_refused_before_it_is_tried(address: str) -> None:
    with pytest.raises(SettingError, match=f"the scheduler at {address} and its workers: without TLS .*--insecure"):
        cluster_for(resolve({"scheduler": address})).connect()


def test_insecure_is_warned_of_and_goes_on(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runmem.clusters.address.is_loopback", lambda address: False)
    with local(protocol="tcp") as there:
        cluster = cluster_for(resolve({"scheduler": there.scheduler_address, "insecure": True}))
        assert cluster.connect().submit(sum, [1, 2]).result() == 3
        cluster.close()
    assert "anyone who can connect can run code as you" in caplog.text


INTRUDER = """
import os, socket, ssl, sys
from pathlib import Path
import distributed
from distributed.security import Security
host, port, spool, user = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
own = Security.temporary()
os.setgroups([]); os.setgid(user); os.setuid(user)  # from here on this is somebody else
assert os.getuid() == os.geteuid() == user
try:
    print("spool:", len(list(spool.iterdir())), "files")
except PermissionError:
    print("spool: refused")
with socket.create_connection((host, port), timeout=10) as raw:
    raw.sendall(b"\\0" * 64)
    try:
        print("raw:", raw.recv(1) and "answered" or "closed")
    except (ConnectionResetError, TimeoutError):
        print("raw: closed")
trusting = ssl.create_default_context()
trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
try:
    with socket.create_connection((host, port), timeout=10) as raw, trusting.wrap_socket(raw) as talking:
        talking.recv(1); print("tls: answered")
except OSError:
    print("tls: refused")
for protocol, security in (("tcp", None), ("tls", own)):
    try:
        client = distributed.Client(f"{protocol}://{host}:{port}", security=security, timeout=2)
        print(f"{protocol} client: ran code,", client.submit(sum, [1, 2]).result())
    except (OSError, TimeoutError, ValueError):  # ValueError: tornado's, of an end that closes while TLS begins
        print(f"{protocol} client: refused")
"""


@pytest.fixture
def somebody() -> Iterator[int]:
    """Return the user id of a temporary account; skip if accounts cannot be made."""
    if os.geteuid() != 0 or not shutil.which("useradd"):
        pytest.skip("needs root and useradd to have a second user")
    name = f"rmtest{os.getpid()}"
    made = subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no second user can be made here: {made.stderr.strip()}")
    try:
        yield pwd.getpwnam(name).pw_uid
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)


@pytest.fixture
def intrude(somebody: int) -> Callable[[str, Path], dict[str, str]]:
    """Return a function that reads a scheduler and a spool as another user of this machine."""

    def run(address: str, spool: Path) -> dict[str, str]:
        host, port = address.rpartition("/")[2].split(":")
        command = [sys.executable, "-c", INTRUDER, host, port, str(spool), str(somebody)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
        assert done.returncode == 0, done.stderr
        return dict(line.split(": ") for line in done.stdout.splitlines())

    return run


def test_another_user_of_this_machine_can_neither_read_nor_connect_nor_submit(
    intrude: Callable[[str, Path], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(returns=1)
    def one() -> int:
        return 1

    monkeypatch.chdir(tmp_path)
    with runmem.session(app="suite", workers=1, python_memory_profile=True) as run:
        assert wait_on(one()) == 1
        spool = Spool.of_run(run.run_id).root
        assert any(spool.iterdir())
        found = intrude(run._connect()[0].scheduler.address, spool)
    assert found == {
        "spool": "refused", "raw": "closed", "tls": "refused", "tcp client": "refused", "tls client": "refused"
    }  # fmt: skip


def test_without_tls_another_user_would_have_code_run(intrude: Callable[[str, Path], dict[str, str]]) -> None:
    """Shows that the test above does not pass only because the intruder can do nothing."""
    with local(protocol="tcp") as cluster:
        found = intrude(cluster.scheduler_address, Path("/usr"))
    assert found["tcp client"] == "ran code, 3"
    assert found["spool"] != "refused"
