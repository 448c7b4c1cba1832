from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runmem.deaths import Cause, Death
from runmem.memory.process import node_free_bytes
from runmem.node.members import join
from runmem.store.layout import Spool, worker_series
from runmem.store.line_writer import LineWriter
from runmem.units import MIB
from runmem.worker.node_then import NodeThen, running_tasks

CRASH = Death(Cause.CRASH, "it crashed", 11)
TASK = SimpleNamespace(module="app", name="work", file="a.py", data_id=None)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    found = Spool(tmp_path / "spool")
    found.make()
    return found


def test_a_death_gets_the_tasks_in_the_other_workers_and_the_free_memory_of_the_node(spool: Spool) -> None:
    block = np.ones(64 * MIB, np.uint8)
    for pid, series in ((os.getpid(), worker_series(os.getpid())), (os.getppid(), "")):
        join(spool.root, pid, "n.dat", series)
    writer = LineWriter("n", None, os.getpid())
    lines = [writer.start(TASK, number, 7, 1.0, 1) for number in (1, 2)]
    lines.append(writer.end(TASK, 1, 7, (1.0, 2.0, 1.0), "finished", None, {}))
    spool.tasks(os.getpid()).write_bytes(b"".join(lines) + b'{"event":"start","task_id":3,')
    node = NodeThen(spool)
    node.look([os.getpid()])
    death = node.complete(999_999_999, CRASH)
    assert death.words == CRASH.words
    assert death.beside is not None
    assert death.beside.startswith("app.work (call 2) with ")
    assert "," not in death.beside
    assert death.node_free_bytes is not None
    assert abs(death.node_free_bytes - (node_free_bytes() or 0)) < 500 * MIB
    assert death.missing is None
    assert node.complete(os.getpid(), CRASH).beside == ""  # it is no neighbour of itself
    assert len(block) == 64 * MIB


def test_what_cannot_be_found_out_is_said_to_be_missing(spool: Spool) -> None:
    spool.members.rmdir()
    death = NodeThen(spool).complete(1, CRASH)
    assert death.beside is None
    assert "the other tasks on the node are not known" in str(death.missing)


def test_the_running_tasks_are_found_at_the_end_of_a_long_file(tmp_path: Path) -> None:
    writer = LineWriter("n", None, 5)
    with (tmp_path / "tasks").open("wb") as file:
        for number in range(1000):
            file.write(writer.start(TASK, number, 7, 1.0, 1))
            if number != 998:
                file.write(writer.end(TASK, number, 7, (1.0, 2.0, 1.0), "finished", None, {}))
    assert [record.task_id for record in running_tasks(tmp_path / "tasks")] == [998]
    assert running_tasks(tmp_path / "missing") == []
