"""A Dask scheduler that runs already; its workers were started by `dask worker`, anywhere."""

from __future__ import annotations

import platform
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar
from urllib.parse import urlsplit

from runmem.clusters.contract import Cluster
from runmem.errors import ClusterError

__all__ = ["AddressCluster", "check_answers", "check_versions"]

_TIMEOUT_S = 10
_REFUSED_S = 3  # a scheduler that was started a moment ago may need as long before it listens


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


def check_answers(address: str) -> None:
    """Return when somebody listens at the address of a scheduler; Dask itself would try for its whole timeout.

    Raises
    ------
    OSError
        If nobody does after three seconds, or the host is unknown. An address of another kind than TCP is not tried.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme not in ("tcp", "tls") or parts.hostname is None or parts.port is None:
        return
    deadline = time.monotonic() + _REFUSED_S
    while True:
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=_REFUSED_S).close()
            return
        except (ConnectionRefusedError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class AddressCluster(Cluster):
    """Connects to a scheduler and leaves it as it was."""

    kind: ClassVar[str] = "address"
    lazy: ClassVar[bool] = False

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._client: Any = None

    def connect(self) -> Any:
        """Reach the scheduler and check that its workers can run this program."""
        import distributed

        if self._client is not None:
            return self._client
        address = str(self.settings.scheduler)
        try:
            check_answers(address)
            self._client = distributed.Client(address, timeout=_TIMEOUT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"--scheduler: no Dask scheduler answers at {address} ({error or type(error).__name__}). Start one "
                "with `dask scheduler`, and workers with `dask worker ADDRESS`; its first lines print the address."
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_TIMEOUT_S)
        except (TimeoutError, OSError) as error:
            self.close()
            raise ClusterError(
                f"--scheduler: {address} has no worker after {_TIMEOUT_S} s. Start some with `dask worker {address}`."
            ) from error
        try:
            check_versions(self._client.get_versions(packages=["runmem"]))
        except ClusterError:
            self.close()
            raise
        return self._client

    def close(self, abandon: bool = False) -> None:
        """Disconnect; the scheduler and its workers go on."""
        if self._client is not None:
            self._client.close()
        self._client = None
