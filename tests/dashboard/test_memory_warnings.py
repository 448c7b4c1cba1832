from __future__ import annotations

import io

from runmem.dashboard.memory_warnings import MemoryWarnings
from runmem.events import MemoryManaged
from runmem.units import MIB


def test_the_first_of_each_kind_is_reported_once() -> None:
    stream = io.StringIO()
    warnings = MemoryWarnings(stream)
    for pid in (1, 2):
        for kind in ("spilled", "paused", "resumed", "terminated", "restarted"):
            warnings.memory_managed(MemoryManaged("n1", pid, kind, 1.0, 90 * MIB if kind != "paused" else None))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("runmem: worker 1 on n1, at 90.0 MiB, moves results to disk")
    assert lines[1].startswith("runmem: worker 1 on n1, is paused by Dask")
