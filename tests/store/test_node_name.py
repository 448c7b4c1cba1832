"""A node has the name that its users know it by."""

from __future__ import annotations

import socket

import pytest

from runmem.store.layout import Spool
from runmem.store.node_name import node_name


def test_outside_of_slurm_it_is_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    assert node_name() == socket.gethostname()


def test_in_a_job_step_it_is_slurms_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    assert node_name() == "n1"


def test_two_of_slurms_nodes_on_one_host_have_a_spool_each(monkeypatch: pytest.MonkeyPatch) -> None:
    spools = set()
    for name in ("n1", "n2", ""):
        monkeypatch.setenv("SLURMD_NODENAME", name)
        spools.add(Spool.of_run("run-1").root)
    assert len(spools) == 3
