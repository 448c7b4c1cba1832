"""A Dask scheduler that runs already; its workers were started by `dask worker`, anywhere."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any, ClassVar

from runmem.clusters.contract import Cluster
from runmem.errors import ClusterError

__all__ = ["AddressCluster", "check_versions"]

_TIMEOUT_S = 10


def check_versions(versions: dict[str, Any]) -> None:
    """Compare what `distributed.Client.get_versions(packages=["runmem"])` returned.

    Raises
    ------
    ClusterError
        If the scheduler or a worker lacks runmem, or has another version of it or of Python; names both.
    """
    ours = {"python": platform.python_version(), "runmem": version("runmem")}
    places = {"the scheduler": versions.get("scheduler")}
    places |= {f"worker {address}": found for address, found in versions.get("workers", {}).items()}
    for place, found in places.items():
        if not isinstance(found, dict):
            continue
        theirs = {"python": found["host"]["python"].split(".final")[0], "runmem": found["packages"].get("runmem")}
        if theirs["runmem"] is None:
            raise ClusterError(
                f"{place} lacks runmem, which is {ours['runmem']} here. Install the same version in its environment "
                f"(pip install runmem=={ours['runmem']}) and start it again."
            )
        for name, ours_is in ours.items():
            same = theirs[name] == ours_is
            if name == "python":  # pickled functions need the same minor version
                same = theirs[name].split(".")[:2] == ours_is.split(".")[:2]
            if not same:
                raise ClusterError(
                    f"{place} has {name} {theirs[name]} and this program has {name} {ours_is}. "
                    "Start both from the same environment."
                )


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

        address = self.settings.scheduler
        try:
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

    def close(self) -> None:
        """Disconnect; the scheduler and its workers go on."""
        if self._client is not None:
            self._client.close()
        self._client = None
