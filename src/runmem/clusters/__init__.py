"""Kinds of clusters: one file a kind, one contract (`contract.py`)."""

from __future__ import annotations

from runmem.clusters.address import AddressCluster
from runmem.clusters.contract import Cluster
from runmem.clusters.local import EmbeddedCluster
from runmem.settings import Settings

__all__ = ["CLUSTERS", "Cluster", "cluster_for"]

CLUSTERS: dict[str, type[Cluster]] = {kind.kind: kind for kind in (EmbeddedCluster, AddressCluster)}


def cluster_for(settings: Settings) -> Cluster:
    """Return the cluster that the settings ask for; nothing is started yet."""
    kind = AddressCluster if settings.scheduler is not None else EmbeddedCluster
    return kind(settings)
