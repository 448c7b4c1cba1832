from __future__ import annotations

from typing import Any

import pytest

from runmem.collection.process_deaths import StartDeath
from runmem.deaths import Cause, Death
from runmem.errors import ClusterError
from runmem.execution.dying_workers import DyingWorkers

KILLED = StartDeath("n1", Death(Cause.CGROUP_LIMIT, "the kernel ended it", 9, limit_bytes=2**30))


class Cluster:
    """A client and the news of the deaths, of which the test sets what there is."""

    def __init__(self) -> None:
        self.workers: dict[str, object] = {}
        self.deaths: list[StartDeath] = []
        self.calls = 1

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": self.workers}

    def deaths_at_start(self) -> list[StartDeath]:
        return list(self.deaths)


def test_a_cluster_is_given_up_when_its_workers_die_as_they_start() -> None:
    cluster = Cluster()
    dying = DyingWorkers(cluster, lambda: cluster.calls)
    cluster.deaths = [KILLED] * 9  # long ago, while others worked
    dying.look(cluster, 2, 1.0)
    cluster.deaths += [KILLED] * 3
    dying.look(cluster, 2, 2.0)
    cluster.workers = {"tcp://a": {}}
    dying.look(cluster, 2, 3.0)
    cluster.workers = {}
    dying.look(cluster, 2, 4.0)
    cluster.deaths += [KILLED] * 4
    dying.look(cluster, 2, 4.1)  # too soon to look again
    with pytest.raises(ClusterError, match=r"4 have died in 6 s.*on node n1: the kernel ended it.*fewer --workers"):
        dying.look(cluster, 2, 10.0)


def test_no_cluster_is_given_up_while_nothing_waits_for_it() -> None:
    cluster = Cluster()
    cluster.calls = 0
    dying = DyingWorkers(cluster, lambda: cluster.calls)
    dying.look(cluster, 1, 1.0)
    cluster.deaths += [KILLED] * 9
    dying.look(cluster, 1, 2.0)


def test_calls_that_wait_long_for_a_worker_are_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster()
    dying = DyingWorkers(cluster, lambda: 1200)
    for now_s in (1.0, 20.0, 32.0, 60.0):
        dying.look(cluster, 2, now_s)
    assert capsys.readouterr().err == "runmem: the cluster has had no worker for 31 s, and 1,200 calls wait for one.\n"
