"""The kind `kubernetes` with the real dask-kubernetes, but without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dask
import pytest

from runmem.clusters import cluster_for
from runmem.clusters.kubernetes import cluster_spec
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings, resolve
from runmem.units import GIB

operator = pytest.importorskip("dask_kubernetes.operator")

IMAGE = "registry.example.org/me/app:1"


def asked(image: str | None = IMAGE, **settings: Any) -> Any:
    with dask.config.set({"kubernetes.image": image}):
        return cluster_for(resolve({"cluster": "kubernetes", "workers": 3, "insecure": True, **settings}))


def spec(**settings: Any) -> dict[str, Any]:
    return cluster_spec(Settings(workers=3, python_memory_profile=True, **settings), IMAGE)


def test_a_pod_has_one_worker_of_one_thread_and_the_limit_of_its_memory() -> None:
    worker = spec(worker_memory_bytes=3 * GIB)["spec"]["worker"]
    (container,) = worker["spec"]["containers"]
    assert worker["replicas"] == 3
    assert container["image"] == IMAGE
    assert " ".join(container["args"]).startswith(
        "dask worker --nworkers 1 --nthreads 1 --memory-limit 3221225472 --name $(DASK_WORKER_NAME)"
    )
    assert container["resources"]["limits"] == {"memory": "3221225472"}
    assert {"name": "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED", "value": "False"} in container["env"]


@pytest.mark.parametrize("given", [{"MINE": "1"}, [{"name": "MINE", "value": "1"}]])
def test_what_is_configured_for_the_environment_is_there_too(given: Any) -> None:
    with dask.config.set({"kubernetes.env": given}):
        (container,) = spec()["spec"]["worker"]["spec"]["containers"]
    assert {"name": "MINE", "value": "1"} in container["env"]


def test_each_run_has_a_cluster_of_its_own_with_a_name_that_the_operator_takes() -> None:
    names = {spec()["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    for name in names:
        operator.validation.validate_cluster_name(name)


def test_without_tls_it_is_refused_unless_insecure_is_given() -> None:
    with pytest.raises(SettingError, match=r"dask-kubernetes has no TLS.*anyone who can connect.*--insecure"):
        asked(insecure=False)
    assert asked().kind == "kubernetes"


def test_what_is_missing_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="needs --workers"):
        asked(workers=None)
    with pytest.raises(SettingError, match=r"ghcr.io/dask/dask:latest has no runmem.*DASK_KUBERNETES__IMAGE"):
        asked(image="ghcr.io/dask/dask:latest")
    with pytest.raises(SettingError, match="--env_script: pods have the environment of their image"):
        asked(env_script=tmp_path / "env.sh")
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    with pytest.raises(ClusterError, match=r"needs the package dask-kubernetes .*pip install 'runmem\[kubernetes\]'"):
        asked()


def test_where_no_cluster_is_reached_it_says_what_must_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    cluster = asked()
    with pytest.raises(ClusterError, match=r"the cluster did not start: .*`kubectl get daskclusters` must work here"):
        cluster.connect()
    cluster.close()
    assert set(operator.KubeCluster._instances) == set()  # it would fail once more when Python ends
