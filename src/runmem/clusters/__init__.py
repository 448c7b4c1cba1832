"""The kinds of clusters, with one contract (`contract.py`)."""

from __future__ import annotations

from runmem.clusters.address import AddressCluster
from runmem.clusters.allocation import AllocationCluster
from runmem.clusters.batch_systems import HTCondorCluster, LsfCluster, PbsCluster, SgeCluster, SlurmCluster
from runmem.clusters.contract import Cluster
from runmem.clusters.kubernetes import KubernetesCluster
from runmem.clusters.local import EmbeddedCluster
from runmem.clusters.ssh import SshCluster
from runmem.errors import SettingError
from runmem.settings import Settings

__all__ = ["CLUSTERS", "Cluster", "cluster_for"]

_KINDS: tuple[type[Cluster], ...] = (EmbeddedCluster, AddressCluster, SshCluster, AllocationCluster, KubernetesCluster)
_JOB_KINDS: tuple[type[Cluster], ...] = (SlurmCluster, PbsCluster, SgeCluster, LsfCluster, HTCondorCluster)
CLUSTERS: dict[str, type[Cluster]] = {cluster.kind: cluster for cluster in (*_KINDS, *_JOB_KINDS)}


def cluster_for(settings: Settings) -> Cluster:
    """Return the cluster of the settings, selected by its name or by a setting of its own. It is not started.

    Raises
    ------
    SettingError
        If the name is unknown, or the settings select two kinds.
    """
    name = settings.cluster
    if name is not None and name not in CLUSTERS:
        raise SettingError(f"--cluster: there is no kind {name!r}; the kinds are {', '.join(sorted(CLUSTERS))}.")
    selected = {f"--cluster {name}": CLUSTERS[name]} if name is not None else {}
    for kind in CLUSTERS.values():
        selected |= {f"--{field}": kind for field in kind.chosen_by if getattr(settings, field) is not None}
    if len(set(selected.values())) > 1:
        raise SettingError(f"{' and '.join(selected)} select different clusters: give one of them.")
    return next(iter(selected.values()), EmbeddedCluster)(settings)
