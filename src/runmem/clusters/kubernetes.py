"""Workers as pods of Kubernetes, through dask-kubernetes and its operator."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any, ClassVar

from runmem.clusters.address import check_versions
from runmem.clusters.contract import Cluster
from runmem.clusters.in_process_scheduler import worker_variables
from runmem.clusters.security import require_insecure
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings
from runmem.units import GIB

__all__ = ["KubernetesCluster", "cluster_spec"]

_DEFAULT_MEMORY_BYTES = 2 * GIB
_FIRST_POD_S = 600.0  # nodes may have to download the image first
_DELETE_S = 10
_DEFAULT_IMAGE = "ghcr.io/dask/dask"  # of dask-kubernetes; has no runmem


def cluster_spec(settings: Settings, image: str) -> dict[str, Any]:
    """Return the ``DaskCluster`` resource of a run: a scheduler, and one worker with one thread a pod.

    Parameters
    ----------
    settings : Settings
        Number of workers, and their memory, which is the request and the limit of a pod.
    image : str
        Container image with the master's versions of Python and runmem.
    """
    from dask import config
    from dask_kubernetes.operator import make_cluster_spec

    memory = settings.worker_memory_bytes or _DEFAULT_MEMORY_BYTES
    given = config.get("kubernetes.env", None) or {}
    named = worker_variables(settings.python_memory_profile)
    variables = [] if isinstance(given, dict) else list(given)
    if isinstance(given, dict):
        named = {**given, **named}
    variables += [{"name": str(name), "value": str(value)} for name, value in named.items()]
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
    """Pods with one worker each. Every pod is a node with its own trace. Tested up to the API, not on a real cluster.

    Namespace, image and time limits are settings of dask-kubernetes (section ``kubernetes`` of Dask's configuration).
    The operator connects to its schedulers without TLS, so this kind requires --insecure.
    """

    kind: ClassVar[str] = "kubernetes"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.workers is None:
            raise SettingError("--cluster kubernetes needs --workers: the number of pods, one worker each.")
        try:
            from dask_kubernetes.operator import KubeCluster
        except ImportError as error:
            raise ClusterError(
                f"--cluster kubernetes needs the package dask-kubernetes ({error}): pip install 'runmem[kubernetes]'."
            ) from error
        from dask import config

        self._class = KubeCluster
        image = str(config.get("kubernetes.image", None) or _DEFAULT_IMAGE)
        if image.partition(":")[0] == _DEFAULT_IMAGE:
            raise SettingError(
                f"--cluster kubernetes: the image {image} has no runmem. Set one with this Python and this runmem: "
                "DASK_KUBERNETES__IMAGE=..., or kubernetes.image in Dask's configuration."
            )
        if settings.env_script is not None:
            raise SettingError(
                "--env_script: pods have the environment of their image: set it there, or by kubernetes.env in Dask's "
                "configuration."
            )
        require_insecure(
            settings, "--cluster kubernetes: dask-kubernetes has no TLS; the scheduler and the workers in its pods"
        )
        self._image = image
        self._cluster: Any = None

    def _start(self) -> None:
        """Create the pods and wait for the first worker."""
        import distributed

        before = set(self._class._instances)
        try:
            spec = cluster_spec(self.settings, self._image)
            self._cluster = self._class(custom_cluster_spec=spec, shutdown_on_close=True, quiet=True)
            self._client = distributed.Client(self._cluster, set_as_default=False)
            deadline_s = time.monotonic() + _FIRST_POD_S

            def check() -> None:
                if time.monotonic() > deadline_s:
                    raise ClusterError(
                        f"--cluster kubernetes: no worker joined in {_FIRST_POD_S:.0f} s; `kubectl describe pods` "
                        f"shows why pods with the image {self._image} do not start."
                    )

            self._wait_for_worker(check)
            check_versions(self._client.get_versions(packages=["runmem"]))
        except BaseException as error:
            self.close(abandon=True)
            self._delete_failed(before)
            if isinstance(error, Exception) and not isinstance(error, (ClusterError, SettingError)):
                raise ClusterError(
                    f"--cluster kubernetes: the cluster did not start: {type(error).__name__}: {error}. "
                    "`kubectl get daskclusters` must work here, and the operator of Dask must be installed there."
                ) from error
            raise

    def close(self, abandon: bool = False) -> None:
        """Delete the pods."""
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(Exception):  # it may have failed to start
                    part.close()
        self._client = self._cluster = None

    def _delete_failed(self, before: set[object]) -> None:
        """Delete the resources of a failed start; otherwise dask-kubernetes fails again when Python exits."""
        for failed in set(self._class._instances) - before:
            with suppress(Exception):
                failed.close(timeout=_DELETE_S)
            self._class._instances.discard(failed)
