"""A running Dask scheduler, with workers started by `dask worker`."""

from __future__ import annotations

import platform
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from runmem.clusters.contract import Cluster
from runmem.clusters.security import is_loopback, require_insecure, security_from_files
from runmem.errors import ClusterError, SettingError
from runmem.reading import read_json
from runmem.settings import Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["AddressCluster", "check_reachable", "check_versions"]

_LISTEN_S = 3  # a scheduler that has just been started may take this long to listen
_TLS_VERDICT_S = 1.0


def check_versions(versions: Mapping[str, Any]) -> None:
    """Compare the result of `distributed.Client.get_versions(packages=["runmem"])` with this process.

    Raises
    ------
    ClusterError
        If the scheduler or a worker lacks runmem, or has another version of it or of Python.
    """
    ours = {"python": platform.python_version(), "runmem": _installed_version() or ""}
    places = {"the scheduler": versions.get("scheduler")}
    places |= {f"worker {address}": found for address, found in versions.get("workers", {}).items()}
    for place, found in places.items():
        if not isinstance(found, dict):
            continue
        python = found["host"]["python"].split(".final")[0]
        if python.split(".")[:2] != ours["python"].split(".")[:2]:  # pickled functions need the same minor version
            raise ClusterError(_differs(place, "python", python, ours["python"]))
        runmem = found["packages"].get("runmem")
        if not ours["runmem"]:  # a source tree without a version
            continue
        if runmem is None:
            raise ClusterError(
                f"{place} lacks runmem, which is {ours['runmem']} here. Install the same version in its environment "
                f"(pip install runmem=={ours['runmem']}) and start it again."
            )
        if runmem != ours["runmem"]:
            raise ClusterError(_differs(place, "runmem", runmem, ours["runmem"]))


def _differs(place: str, name: str, theirs: str, ours: str) -> str:
    return f"{place} has {name} {theirs} and this program has {name} {ours}. Use the same environment for both."


def _installed_version() -> str | None:
    try:
        return version("runmem")
    except PackageNotFoundError:
        return None


def check_reachable(address: str, tls: ssl.SSLContext | None = None) -> None:
    """Check the connection to a scheduler, failing sooner than Dask, which retries until its timeout.

    Parameters
    ----------
    tls : ssl.SSLContext, optional
        Context for a ``tls://`` address.

    Raises
    ------
    OSError
        If nothing listens after three seconds, the host is unknown, or one end rejects the other's certificate
        (`ssl.SSLError`). Addresses other than TCP are not checked.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        return
    deadline = time.monotonic() + _LISTEN_S
    while True:
        try:
            with socket.create_connection((parts.hostname, parts.port), timeout=_LISTEN_S) as connection:
                if parts.scheme == "tls" and tls is not None:
                    _check_handshake(connection, tls)
            return
        except (ConnectionRefusedError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _check_handshake(connection: socket.socket, tls: ssl.SSLContext) -> None:
    """Raise `ssl.SSLError` if one end rejects the other. The server's verdict comes after the handshake."""
    with tls.wrap_socket(connection) as encrypted:
        encrypted.settimeout(_TLS_VERDICT_S)
        with suppress(TimeoutError):
            encrypted.recv(1)


def _read_scheduler_file(file: Path) -> str:
    """Return the address in a file written by `dask scheduler --scheduler-file`.

    Raises
    ------
    SettingError
        If the file is missing or has no address.
    """
    try:
        address = read_json(file)["address"]
    except OSError as error:
        raise SettingError(
            f"--scheduler_file: {file} cannot be read: {error.strerror}. `dask scheduler --scheduler-file {file}` "
            "writes it."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"--scheduler_file: {file} has no address: it was not written by `dask scheduler`."
        ) from error
    return str(address)


class AddressCluster(Cluster):
    """Connects to a scheduler and never changes or ends it.

    Parameters
    ----------
    settings : Settings
    timeout_s : float, optional
        Longest wait for an answer of the scheduler, and for a worker.
    """

    kind: ClassVar[str] = "address"
    ours: ClassVar[bool] = False
    chosen_by: ClassVar[tuple[str, ...]] = ("scheduler", "scheduler_file")

    def __init__(self, settings: Settings, timeout_s: float = 10) -> None:
        super().__init__(settings)
        self._timeout_s = timeout_s
        if (settings.scheduler is None) == (settings.scheduler_file is None):
            raise SettingError("give either --scheduler or --scheduler_file to use a running cluster.")
        self._option = "--scheduler" if settings.scheduler is not None else "--scheduler_file"
        self._tls = security_from_files(settings)

    def _start(self) -> None:
        """Connect to the scheduler and check that its workers can run this program."""
        file = self.settings.scheduler_file
        address = _read_scheduler_file(file) if file is not None else str(self.settings.scheduler)
        if not _is_encrypted(address) and not is_loopback(address):
            require_insecure(self.settings, f"{self._option}: the scheduler at {address} and its workers")
        self._client = client = self._connect(address)
        try:
            client.wait_for_workers(1, timeout=self._timeout_s)
        except (TimeoutError, OSError) as error:
            raise ClusterError(
                f"{self._option}: {address} has no worker after {self._timeout_s:g} s. "
                f"Start some with `dask worker {address}`."
            ) from error
        workers = client.scheduler_info(n_workers=-1)["workers"]
        plain = [worker for worker in workers if not _is_encrypted(worker) and not is_loopback(worker)]
        if plain and is_loopback(address):  # other addresses are checked above
            require_insecure(self.settings, f"{self._option}: the workers of {address}, such as {plain[0]}")
        check_versions(client.get_versions(packages=["runmem"]))

    def _connect(self, address: str) -> Client:
        import distributed

        security = self._tls.dask() if self._tls is not None else distributed.Security()  # Dask's own configuration
        tls = security.get_connection_args("client")["ssl_context"]
        if _is_encrypted(address) and tls is None:
            raise SettingError(
                f"{self._option}: {address} needs certificates: give --tls_ca, --tls_cert and --tls_key, or set "
                "distributed.comm.tls in Dask's configuration."
            )
        try:
            check_reachable(address, tls)
            return distributed.Client(address, security=security, timeout=self._timeout_s, set_as_default=False)
        except ssl.SSLError as error:
            raise ClusterError(
                f"{self._option}: the TLS handshake of {address} and this program failed: {error}. Both need "
                "certificates signed by the same authority; a scheduler started without certificates is at tcp://."
            ) from error
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"{self._option}: no Dask scheduler answers at {address} ({error or type(error).__name__}). Start one "
                "with `dask scheduler`, and workers with `dask worker ADDRESS`; its first lines print the address."
            ) from error

    def close(self, abandon: bool = False) -> None:
        """Disconnect. The scheduler and its workers go on."""
        if self._client is not None:
            self._client.close()
        self._client = None


def _is_encrypted(address: str) -> bool:
    return urlsplit(address).scheme in ("tls", "wss")
