"""What Dask does about memory, as it happens: spilling, pausing, ending and restarting of a worker."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import dask
import distributed
import numpy as np
import pytest

import runmem
from runmem.formats.mprof import read_trace
from runmem.store.layout import safe_name
from runmem.store.node_name import node_name
from runmem.store.run import read_run
from runmem.units import MIB


def make(number: int) -> np.ndarray:
    return np.ones(40 * MIB, "u1")


def late(number: int) -> int:
    """Take 60 MiB, during which Dask spills, and 80 MiB afterwards."""
    first = np.ones(60 * MIB, "u1")
    time.sleep(1.0)
    del first
    return len(np.ones(80 * MIB, "u1"))


def take(size_mib: int) -> int:
    """Take memory in steps, so that Dask can spill meanwhile."""
    blocks = []
    for _ in range(size_mib // 70):
        blocks.append(np.ones(70 * MIB, "u1"))
        time.sleep(0.2)
    return len(blocks)


def own_pid() -> int:
    return os.getpid()


def kinds_in(trace: Path) -> set[str]:
    return {event.kind for event in read_trace(trace).events} if trace.exists() else set()


@pytest.mark.slow
def test_what_dask_does_about_memory_is_seen(tmp_path: Path, capfd, eventually) -> None:
    """The worker may use 500 MiB: Dask spills above 350, pauses above 400, and ends it above 475 MiB."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit="500MiB", dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        runmem.measure(client, run_folder=tmp_path, summary=False) as measured,
    ):
        trace = measured.directory.traces / f"{safe_name(node_name())}.dat"
        stored = client.map(make, range(6), pure=False)
        assert len(client.gather(client.map(len, stored))) == 6
        assert client.submit(late, 0).result(60) == 80 * MIB
        assert client.submit(take, 350).result(60) == 5
        pid = next(iter(client.run(own_pid).values()))
        eventually(lambda: kinds_in(trace) >= {"spilled", "paused", "resumed"})
        with pytest.raises(distributed.scheduler.KilledWorker):
            client.submit(take, 1400).result(60)
        client.wait_for_workers(1, timeout=60)
        eventually(lambda: kinds_in(trace) >= {"terminated", "restarted"})
    run = read_run(measured.directory.root)
    rows = {row.kind: row for row in measured.summary().memory}
    assert rows.keys() == {"spilled", "paused", "terminated", "restarted"}
    assert rows["spilled"].pid == rows["paused"].pid == rows["terminated"].pid == pid != rows["restarted"].pid
    moved = rows["spilled"].spilled_bytes
    assert moved is not None
    assert moved >= 40 * MIB
    assert moved % (40 * MIB) < MIB  # arrays of 40 MiB, and perhaps small numbers
    assert (rows["paused"].paused_s or 0) > 0
    told = capfd.readouterr().err
    assert len(re.findall(r"runmem: worker \d+ on .*, at .* MiB, moves results to disk", told)) == 1
    (record,) = [record for record in run.records if record.name == "late"]
    # What it took is 80 MiB, after results of at least 40 MiB had left the process.
    assert record.increment_unclear is not None
    assert "Dask moved results to disk meanwhile" in record.increment_unclear
    assert (record.increment_bytes or 0) > 79 * MIB  # the upper bound
    assert record.held_bytes is not None
    assert record.held_bytes < 6 * 40 * MIB
