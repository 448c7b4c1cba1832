"""Kinds of clusters: one file a kind, one contract (`contract.py`)."""

from __future__ import annotations

from runmem.clusters.address import AddressCluster
from runmem.clusters.allocation import AllocationCluster
from runmem.clusters.contract import Cluster
from runmem.clusters.htcondor import HTCondorCluster
from runmem.clusters.kubernetes import KubernetesCluster
from runmem.clusters.local import EmbeddedCluster
from runmem.clusters.lsf import LsfCluster
from runmem.clusters.pbs import PbsCluster
from runmem.clusters.sge import SgeCluster
from runmem.clusters.slurm import SlurmCluster
from runmem.clusters.ssh import SshCluster
from runmem.errors import SettingError
from runmem.settings import Settings

__all__ = ["CLUSTERS", "Cluster", "cluster_for"]

_KINDS: tuple[type[Cluster], ...] = (
    EmbeddedCluster, AddressCluster, SshCluster, AllocationCluster,
    SlurmCluster, PbsCluster, SgeCluster, LsfCluster, HTCondorCluster, KubernetesCluster,
)  # fmt: skip
CLUSTERS: dict[str, type[Cluster]] = {kind.kind: kind for kind in _KINDS}


def cluster_for(settings: Settings) -> Cluster:
    """Return the cluster that the settings ask for, by its name or by what only one kind uses; nothing is started yet.

    Raises
    ------
    SettingError
        If no kind has that name, or the settings ask for two kinds.
    """
    name = settings.cluster
    if name is not None and name not in CLUSTERS:
        raise SettingError(f"--cluster: there is no kind {name!r}; write one of {', '.join(sorted(CLUSTERS))}.")
    asking = {"--cluster " + name: CLUSTERS[name]} if name is not None else {}
    for kind in CLUSTERS.values():
        asking |= {f"--{field}": kind for field in kind.chosen_by if getattr(settings, field) is not None}
    if len(set(asking.values())) > 1:
        raise SettingError(f"{' and '.join(asking)} ask for different clusters: give one of them.")
    return next(iter(asking.values()), EmbeddedCluster)(settings)
