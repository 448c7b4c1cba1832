"""A Dask scheduler that runs already; its workers were started by `dask worker`, anywhere."""

from __future__ import annotations

import platform
import socket
import ssl
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from runmem.clusters.contract import Cluster
from runmem.clusters.security import given_security, is_loopback, refuse_or_warn
from runmem.errors import ClusterError, RunmemError, SettingError
from runmem.reading import read_json
from runmem.settings import Settings

__all__ = ["AddressCluster", "address_in", "check_answers", "check_versions"]

_REFUSED_S = 3  # a scheduler that was started a moment ago may need as long before it listens
_VERDICT_S = 1.0


def check_versions(versions: dict[str, Any]) -> None:
    """Compare what `distributed.Client.get_versions(packages=["runmem"])` returned.

    Raises
    ------
    ClusterError
        If the scheduler or a worker lacks runmem, or has another version of it or of Python; names both.
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
        if not ours["runmem"]:  # a source tree on the path, here and probably there: nothing to compare
            continue
        if runmem is None:
            raise ClusterError(
                f"{place} lacks runmem, which is {ours['runmem']} here. Install the same version in its environment "
                f"(pip install runmem=={ours['runmem']}) and start it again."
            )
        if runmem != ours["runmem"]:
            raise ClusterError(_differs(place, "runmem", runmem, ours["runmem"]))


def _differs(place: str, name: str, theirs: str, ours: str) -> str:
    return f"{place} has {name} {theirs} and this program has {name} {ours}. Start both from the same environment."


def _installed_version() -> str | None:
    try:
        return version("runmem")
    except PackageNotFoundError:
        return None


def check_answers(address: str, tls: Any = None) -> None:
    """Return when somebody listens at the address of a scheduler; Dask itself would try for its whole timeout.

    Parameters
    ----------
    tls : ssl.SSLContext, optional
        What a ``tls://`` address is spoken to with.

    Raises
    ------
    OSError
        If nobody does after three seconds, the host is unknown, or one end refuses the other's certificate
        (`ssl.SSLError`). An address of another kind than TCP is not tried.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        return
    deadline = time.monotonic() + _REFUSED_S
    while True:
        try:
            with socket.create_connection((parts.hostname, parts.port), timeout=_REFUSED_S) as connection:
                if parts.scheme == "tls" and tls is not None:
                    _shake_hands(connection, tls)
            return
        except (ConnectionRefusedError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _shake_hands(connection: socket.socket, tls: ssl.SSLContext) -> None:
    """Raise `ssl.SSLError` if one end refuses the other. The word about our certificate comes after the handshake."""
    with tls.wrap_socket(connection) as talking:
        talking.settimeout(_VERDICT_S)
        with suppress(TimeoutError):
            talking.recv(1)


def address_in(file: Path) -> str:
    """Return the address in a file that `dask scheduler --scheduler-file` wrote.

    Raises
    ------
    SettingError
        If the file is missing or is none.
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
            f"--scheduler_file: {file} is no file that `dask scheduler` wrote: no address in it."
        ) from error
    return str(address)


class AddressCluster(Cluster):
    """Connects to a scheduler and leaves it as it was.

    Parameters
    ----------
    settings : Settings
    timeout_s : float, optional
        How long an answer of the scheduler, and a worker, is waited for.
    """

    kind: ClassVar[str] = "address"
    lazy: ClassVar[bool] = False
    ours: ClassVar[bool] = False
    chosen_by: ClassVar[tuple[str, ...]] = ("scheduler", "scheduler_file")

    def __init__(self, settings: Settings, timeout_s: float = 10) -> None:
        super().__init__(settings)
        self._timeout_s = timeout_s
        self._client: Any = None
        if (settings.scheduler is None) == (settings.scheduler_file is None):
            raise SettingError(
                "a cluster that runs already is named by --scheduler or --scheduler_file: give one of them."
            )
        self._option = "--scheduler" if settings.scheduler is not None else "--scheduler_file"
        self._tls = given_security(settings)

    def connect(self) -> Any:
        """Reach the scheduler and check that its workers can run this program."""
        if self._client is not None:
            return self._client
        file = self.settings.scheduler_file
        address = address_in(file) if file is not None else str(self.settings.scheduler)
        if not _is_encrypted(address) and not is_loopback(address):
            refuse_or_warn(self.settings, f"{self._option}: the scheduler at {address} and its workers")
        self._client = self._reach(address)
        try:
            self._check_workers(address)
        except RunmemError:
            self.close()
            raise
        return self._client

    def _reach(self, address: str) -> Any:
        import distributed

        security = self._tls.dask() if self._tls is not None else distributed.Security()  # Dask's own configuration
        tls = security.get_connection_args("client")["ssl_context"]
        if _is_encrypted(address) and tls is None:
            raise SettingError(
                f"{self._option}: {address} wants certificates: give --tls_ca, --tls_cert and --tls_key, or set "
                "distributed.comm.tls in Dask's configuration."
            )
        try:
            check_answers(address, tls)
            return distributed.Client(address, security=security, timeout=self._timeout_s, set_as_default=False)
        except ssl.SSLError as error:
            raise ClusterError(
                f"{self._option}: the scheduler at {address} and this program refuse each other: {error}. Both need "
                "certificates that the same authority signed; a scheduler that was started without them speaks tcp://."
            ) from error
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"{self._option}: no Dask scheduler answers at {address} ({error or type(error).__name__}). Start one "
                "with `dask scheduler`, and workers with `dask worker ADDRESS`; its first lines print the address."
            ) from error

    def _check_workers(self, address: str) -> None:
        try:
            self._client.wait_for_workers(1, timeout=self._timeout_s)
        except (TimeoutError, OSError) as error:
            raise ClusterError(
                f"{self._option}: {address} has no worker after {self._timeout_s:g} s. "
                f"Start some with `dask worker {address}`."
            ) from error
        plain = [one for one in self._client.scheduler_info(n_workers=-1)["workers"]
                 if not _is_encrypted(one) and not is_loopback(one)]  # fmt: skip
        if plain and is_loopback(address):  # for another address it was said above
            refuse_or_warn(self.settings, f"{self._option}: the workers of {address}, such as {plain[0]}")
        check_versions(self._client.get_versions(packages=["runmem"]))

    def close(self, abandon: bool = False) -> None:
        """Disconnect; the scheduler and its workers go on."""
        if self._client is not None:
            self._client.close()
        self._client = None


def _is_encrypted(address: str) -> bool:
    return urlsplit(address).scheme in ("tls", "wss")
