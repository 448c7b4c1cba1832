"""The lines that a worker writes about its calls."""

from __future__ import annotations

import json
import mmap
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from runmem.execution.record_fields import set_record_fields
from runmem.execution.worker_run import RunOnWorkers, WorkerRun
from runmem.store.layout import Spool
from runmem.store.mapped_lines import read_lines
from runmem.store.node_name import node_name
from runmem.store.task_lines import TaskLines

TASK = SimpleNamespace(module="app", name="work", file="/app.py", data_id=None)
OTHER = SimpleNamespace(module="app", name="other", file="/app.py", data_id=None)


class Worker:
    """A run in this process, and what stands in its spool."""

    def __init__(self, run: WorkerRun, path: Path) -> None:
        self.run = run
        self._path = path

    def call(self, number: int, following: int | None = None, task: Any = TASK, body: Any = int) -> None:
        self.run.measured(number, task, False, body, following)

    def text(self) -> bytes:
        return read_lines(str(self._path), 0, 1 << 20)

    def lines(self) -> list[tuple[str, int, int | None]]:
        found = [json.loads(line) for line in self.text().splitlines()]
        return [(line["event"], line["task_id"], line.get("next")) for line in found]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    spool = Spool.of_run("lines")
    on_workers = RunOnWorkers("lines", "app", node_name(), str(spool.root), True, 1.0)
    run = WorkerRun(on_workers, None, lambda message: None, samples=False)
    yield Worker(run, Path(run._log.place))
    run.bundle_ended()  # a window that stayed open would be one in the next test's process too
    run.close()


def test_calls_of_one_task_start_with_the_line_of_the_one_before(worker: Worker) -> None:
    worker.call(1, following=2)
    worker.call(2, following=3)
    worker.call(3)
    worker.run.bundle_ended()
    assert worker.lines() == [("start", 1, None), ("end", 1, 2), ("end", 2, 3), ("end", 3, None)]


def test_a_call_that_does_not_come_is_taken_back_by_the_next_one(worker: Worker) -> None:
    worker.call(1, following=2)
    worker.call(3)
    worker.run.bundle_ended()
    assert worker.lines() == [
        ("start", 1, None),
        ("end", 1, 2),
        ("unbegun", 2, None),
        ("start", 3, None),
        ("end", 3, None),
    ]


def test_a_call_that_does_not_come_is_taken_back_at_the_end_of_the_bundle(worker: Worker) -> None:
    worker.call(1, following=2)
    worker.run.bundle_ended()
    assert worker.lines()[-1] == ("unbegun", 2, None)
    lines = TaskLines()
    lines.feed("n", {1: worker.text()})
    assert (lines.running, lines.skipped) == (0, 0)


def test_a_call_of_another_task_has_its_own_start(worker: Worker) -> None:
    worker.call(1)
    worker.call(2, task=OTHER)
    assert [line[:2] for line in worker.lines()] == [("start", 1), ("end", 1), ("start", 2), ("end", 2)]


def test_a_call_after_one_that_told_its_own_memory_has_its_own_start(worker: Worker) -> None:
    worker.call(1, following=2, body=lambda: set_record_fields(end_bytes=1))
    worker.call(2)
    assert worker.lines()[:3] == [("start", 1, None), ("end", 1, None), ("start", 2, None)]


def test_a_call_that_raises_is_followed_as_one_that_returns(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.call(1, following=2, body=lambda: 1 // 0)
    worker.call(2)
    assert worker.lines() == [("start", 1, None), ("end", 1, 2), ("end", 2, None)]


def test_each_of_many_short_calls_has_its_own_values_whatever_the_ones_around_it_do(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Mock(wraps=worker.run._probes.next)
    monkeypatch.setattr(worker.run._probes, "next", readings)
    kept: list[Any] = []
    bodies = {
        20: lambda: kept.append(touched(8)),  # stays until
        40: kept.clear,
        60: lambda: touched(30).close(),
        80: lambda: set_record_fields(data_id={"visit": 1}),
        100: lambda: time.sleep(0.01),
    }
    for number in range(1, 121):
        worker.call(number, number + 1, body=bodies.get(number, int))
    worker.run.bundle_ended()
    lines = [json.loads(line) for line in worker.text().splitlines()]
    records = {line["task_id"]: line for line in lines if line["event"] == "end"}
    assert list(records) == list(range(1, 121))
    for one, after in pairwise(records.values()):
        assert after["start_s"] == one["end_s"]
        if one["task_id"] not in (20, 60):  # what these left in the allocator is given back before the next one
            assert after["base_bytes"] == one["end_bytes"]
        assert 0 <= one["cpu_s"] <= one["end_s"] - one["start_s"] + 0.002
        assert one["increment_bytes"] == one["peak_bytes"] - one["base_bytes"]
        assert one.keys() - {"data_id", "next"} == records[120].keys() - {"next"}
    mebibytes = {number: round(one["increment_bytes"] / 2**20) for number, one in records.items()}
    assert {number: size for number, size in mebibytes.items() if size} == {20: 8, 60: 30}
    assert round((records[40]["base_bytes"] - records[40]["end_bytes"]) / 2**20) == 8
    assert records[80]["data_id"] == {"visit": 1}
    assert records[100]["end_s"] - records[100]["start_s"] >= 0.01
    starts = [line["task_id"] for line in lines if line["event"] == "start"]
    assert starts in ([1, 81], [1, 21, 81], [1, 61, 81], [1, 21, 61, 81])  # all others begin with the line before them
    assert readings.call_count < 60  # most calls change nothing, and need none


def touched(mebibytes: int) -> mmap.mmap:
    area = mmap.mmap(-1, mebibytes << 20)
    for place in range(0, len(area), 4096):
        area[place] = 1
    return area


def test_the_increment_of_memory_that_a_call_tells_itself_is_peak_less_base(worker: Worker) -> None:
    worker.call(1, body=lambda: set_record_fields(base_bytes=10, peak_bytes=50))
    worker.call(2, body=lambda: set_record_fields(base_bytes=None, peak_bytes=50))
    ended = [json.loads(line) for line in worker.text().splitlines() if b'"event": "end"' in line]
    assert [line["increment_bytes"] for line in ended] == [40, None]
    assert [line["held_bytes"] for line in ended] == [None, None]
