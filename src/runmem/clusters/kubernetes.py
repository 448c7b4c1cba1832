"""Workers as pods of Kubernetes, through dask-kubernetes and its operator."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any, ClassVar

from runmem.clusters.address import check_versions
from runmem.clusters.contract import Cluster
from runmem.clusters.in_process_scheduler import worker_configuration
from runmem.clusters.security import require_insecure
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings
from runmem.units import GIB

__all__ = ["KubernetesCluster", "cluster_spec"]

_MEMORY_BYTES = 2 * GIB
_FIRST_WORKER_S = 600.0  # a node may have to load the image first
_POLL_S = 0.2
_END_S = 10
_NOT_OURS = "ghcr.io/dask/dask"  # the image of dask-kubernetes' own configuration


def cluster_spec(settings: Settings, image: str) -> dict[str, Any]:
    """Return the ``DaskCluster`` resource of a run: a scheduler, and one worker with one thread a pod.

    Parameters
    ----------
    settings : Settings
        With the number of workers; their memory is the pod's request and limit.
    image : str
        Container image with the master's versions of Python and runmem.
    """
    from dask import config
    from dask_kubernetes.operator import make_cluster_spec

    memory = settings.worker_memory_bytes or _MEMORY_BYTES
    given = config.get("kubernetes.env", None) or {}
    variables = [{"name": str(name), "value": str(value)} for name, value in given.items()] if isinstance(given, dict) \
        else list(given)  # fmt: skip
    for name, value in worker_configuration(settings.python_memory_profile).items():
        variables.append({"name": "DASK_" + name.upper().replace(".", "__"), "value": str(value)})
    spec: dict[str, Any] = make_cluster_spec(
        name=f"runmem-{uuid.uuid4().hex[:8]}",
        image=image,
        n_workers=settings.workers,
        env=variables,
        worker_command=f"dask worker --nworkers 1 --nthreads 1 --memory-limit {memory}",
    )
    (worker,) = spec["spec"]["worker"]["spec"]["containers"]
    worker["resources"] = {"requests": {"cpu": "1", "memory": str(memory)}, "limits": {"memory": str(memory)}}
    return spec


class KubernetesCluster(Cluster):
    """One worker a pod, each a node with a trace of its own. It was never run on a real cluster, only up to its API.

    Namespace, image and time limits are dask-kubernetes' own settings (section ``kubernetes`` of Dask's configuration).
    The operator speaks to its schedulers without TLS and knows no certificates, so this kind wants --insecure.
    """

    kind: ClassVar[str] = "kubernetes"
    lazy: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.workers is None:
            raise SettingError("--cluster kubernetes needs --workers: how many pods to start, one worker each.")
        try:
            from dask_kubernetes.operator import KubeCluster
        except ImportError as error:
            raise ClusterError(
                f"--cluster kubernetes needs the package dask-kubernetes ({error}): pip install 'runmem[kubernetes]'."
            ) from error
        from dask import config

        self._class = KubeCluster
        image = str(config.get("kubernetes.image", None) or _NOT_OURS)
        if image.partition(":")[0] == _NOT_OURS:
            raise SettingError(
                f"--cluster kubernetes: the image {image} has no runmem. Name one with this Python and this runmem: "
                "DASK_KUBERNETES__IMAGE=..., or kubernetes.image in Dask's configuration."
            )
        if settings.env_script is not None:
            raise SettingError(
                "--env_script: pods begin with the environment of their image: set it there, or by kubernetes.env in "
                "Dask's configuration."
            )
        require_insecure(
            settings, "--cluster kubernetes: dask-kubernetes has no TLS; the scheduler and the workers in its pods"
        )
        self._image = image
        self._cluster: Any = None
        self._client: Any = None

    def connect(self) -> Any:
        """Create the pods; wait until the first worker has joined."""
        import distributed

        if self._client is not None:
            return self._client
        before = set(self._class._instances)
        try:
            spec = cluster_spec(self.settings, self._image)
            self._cluster = self._class(custom_cluster_spec=spec, shutdown_on_close=True, quiet=True)
            self._client = distributed.Client(self._cluster, set_as_default=False)
            self._wait_for_a_worker()
            check_versions(self._client.get_versions(packages=["runmem"]))
        except BaseException as error:
            self.close(abandon=True)
            self._forget_failed(before)
            if isinstance(error, Exception) and not isinstance(error, (ClusterError, SettingError)):
                raise ClusterError(
                    f"--cluster kubernetes: the cluster did not start: {type(error).__name__}: {error}. "
                    "`kubectl get daskclusters` must work here, and the operator of Dask must be installed there."
                ) from error
            raise
        return self._client

    def _wait_for_a_worker(self) -> None:
        deadline = time.monotonic() + _FIRST_WORKER_S
        while not self._client.scheduler_info(n_workers=-1)["workers"]:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"--cluster kubernetes: no worker joined in {_FIRST_WORKER_S:.0f} s; `kubectl describe pods` says "
                    f"why pods with the image {self._image} do not start."
                )
            time.sleep(_POLL_S)

    def close(self, abandon: bool = False) -> None:
        """Delete the pods."""
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(Exception):  # also one that never came to run
                    part.close()
        self._client = self._cluster = None

    def _forget_failed(self, before: set[Any]) -> None:
        """Delete what a start that failed has made; dask-kubernetes itself would fail again when Python ends."""
        for failed in set(self._class._instances) - before:
            with suppress(Exception):
                failed.close(timeout=_END_S)
            self._class._instances.discard(failed)
