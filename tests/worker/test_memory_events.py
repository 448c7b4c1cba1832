"""What nannies do about memory, as events in the trace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from runmem.formats.mprof import read_trace
from runmem.worker.memory_events import NannyMemoryEvents


class OneWorker:
    """A nanny as the events see it: the process id of its worker, None between two."""

    pid: int | None = None


def test_restarts_and_ends_at_the_limit_are_written(tmp_path: Path, eventually: Callable) -> None:
    trace = tmp_path / "n1.dat"
    nanny, other = OneWorker(), OneWorker()
    other.pid = 5
    events = NannyMemoryEvents(trace, lambda: 100.0)
    events.add(nanny)
    events.add(other)
    nanny.pid = 11  # the first is not a restart
    eventually(lambda: events.known(nanny) == 11)
    nanny.pid = None
    events.terminated(os.getpid())
    nanny.pid = 12
    eventually(lambda: trace.exists() and len(read_trace(trace).events) == 2)
    events.close()
    ended, restarted = read_trace(trace).events
    assert (ended.kind, ended.pid, ended.time_s) == ("terminated", os.getpid(), 100.0)
    assert ended.size_bytes is not None
    assert (restarted.kind, restarted.pid, restarted.size_bytes) == ("restarted", 12, None)
