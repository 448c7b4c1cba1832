from __future__ import annotations

import logging
import socket
import ssl
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from runmem.clusters.certificate import make_certificate
from runmem.clusters.security import TlsSecurity, is_loopback, require_insecure, run_security, security_from_files
from runmem.errors import SettingError
from runmem.settings import resolve


def talk(server: TlsSecurity, client: ssl.SSLContext) -> bytes:
    """Return a server's message to a client over a real connection, with Dask's TLS contexts."""
    listening = server.dask().get_listen_args("scheduler")["ssl_context"]
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            connection, _ = door.accept()
            try:
                with listening.wrap_socket(connection, server_side=True) as talking:
                    talking.sendall(b"welcome")
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            connection = socket.create_connection(door.getsockname(), timeout=10)
            with connection, client.wrap_socket(connection) as talking:
                return talking.recv(100)
        finally:
            thread.join()


def context(security: TlsSecurity) -> ssl.SSLContext:
    return security.dask().get_connection_args("worker")["ssl_context"]


@pytest.fixture(scope="module")
def security() -> TlsSecurity:
    return TlsSecurity(*make_certificate())


def test_who_has_the_certificate_of_the_run_may_talk(security: TlsSecurity) -> None:
    assert talk(security, context(security)) == b"welcome"


def test_the_certificate_of_another_run_is_refused(security: TlsSecurity) -> None:
    with pytest.raises(ssl.SSLError):
        talk(security, context(TlsSecurity(*make_certificate())))


def test_nobody_without_a_certificate_is_served(security: TlsSecurity) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="(?i)certificate"):
        talk(security, trusting)


def test_a_holder_of_the_certificate_cannot_make_one_for_others(security: TlsSecurity) -> None:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(security.cert.encode())
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "PRIVATE" not in security.ca
    assert security.key.count("PRIVATE KEY-----") == 2  # one key, that of the member


def test_strict_checks_of_newer_pythons_accept_it(security: TlsSecurity) -> None:
    strict = context(security)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    assert talk(security, strict) == b"welcome"


def test_a_host_whose_clock_is_hours_behind_accepts_it(security: TlsSecurity) -> None:
    import datetime

    from cryptography import x509

    behind = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=12)
    for text in (security.ca, security.cert):
        assert x509.load_pem_x509_certificate(text.encode()).not_valid_before_utc < behind


def test_the_files_are_private(security: TlsSecurity, tmp_path: Path) -> None:
    files = security.write(tmp_path / "tls")
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    for path, text in ((files.ca, security.ca), (files.cert, security.cert), (files.key, security.key)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() == text
    with pytest.raises(FileExistsError):  # a folder that somebody else made is not used
        security.write(tmp_path / "tls")


def test_the_key_is_not_in_logs(security: TlsSecurity) -> None:
    assert "PRIVATE" not in repr(security)
    assert "PRIVATE" not in repr(security.dask())


def options(security: TlsSecurity, folder: Path) -> dict[str, Any]:
    files = security.write(folder / "tls")
    return {"tls_ca": files.ca, "tls_cert": files.cert, "tls_key": files.key}


def test_files_that_are_given_are_used(security: TlsSecurity, tmp_path: Path) -> None:
    assert security_from_files(resolve(options(security, tmp_path))) == security
    assert run_security(resolve(options(security, tmp_path / "2")), "the ports") == security
    assert security_from_files(resolve({})) is None


@pytest.mark.parametrize("missing", ["tls_ca", "tls_cert", "tls_key"])
def test_one_file_too_few_is_told(security: TlsSecurity, tmp_path: Path, missing: str) -> None:
    given = options(security, tmp_path)
    del given[missing]
    with pytest.raises(SettingError, match=f"--{missing}: missing"):
        security_from_files(resolve(given))


@pytest.mark.parametrize("option", ["tls_ca", "tls_cert", "tls_key"])
@pytest.mark.parametrize("fault", ["missing", "binary", "other"])
def test_a_file_that_cannot_be_used_is_named(security: TlsSecurity, tmp_path: Path, option: str, fault: str) -> None:
    given = options(security, tmp_path)
    path = given[option]
    if fault == "missing":
        path.unlink()
    elif fault == "binary":
        path.write_bytes(b"\xff\x00")
    else:
        path.write_text("-----BEGIN NOTHING-----\n")
    with pytest.raises(SettingError, match=f"--{option}.* {path}"):
        security_from_files(resolve(given))


def test_a_key_of_another_certificate_is_told(security: TlsSecurity, tmp_path: Path) -> None:
    given = options(security, tmp_path)
    given["tls_key"].write_text(make_certificate()[2])
    with pytest.raises(SettingError, match="are not a certificate and its key"):
        security_from_files(resolve(given))


def test_without_tls_a_run_that_spans_hosts_is_refused() -> None:
    with pytest.raises(SettingError, match="the ports: without TLS anyone .* run code as you.*--insecure"):
        require_insecure(resolve({}), "the ports")


def test_insecure_warns_of_what_anybody_could_do(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "runmem"):
        assert run_security(resolve({"insecure": True}), "the ports of the run") is None
    assert "--insecure: the ports of the run: without TLS anyone who can connect can run code as you" in caplog.text


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("tcp://127.0.0.1:1", True), ("127.9.9.9:1", True), ("tcp://localhost:1", True), ("tcp://[::1]:1", True),
        ("inproc://10.0.0.1/1/1", True), ("tcp://10.0.0.1:1", False), ("tcp://0.0.0.0:1", False),
        ("tcp://[fe80::1]:1", False), ("tcp://no-such-host.invalid:1", False),
    ],
)  # fmt: skip
def test_what_only_this_machine_reaches_is_told_apart(address: str, private: bool) -> None:
    assert is_loopback(address) is private
