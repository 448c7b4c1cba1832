"""The lines that a worker writes about its calls."""

from __future__ import annotations

import json
import mmap
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runmem.node.sampled_peaks import PeakWriter, SampledPeak
from runmem.store.layout import Spool
from runmem.store.node_name import node_name
from runmem.store.task_lines import TaskLines
from runmem.worker.call_recorder import WorkerRun
from runmem.worker.record_fields import set_record_fields
from runmem.worker.run_on_workers import RunOnWorkers

TASK = SimpleNamespace(module="app", name="work", file="/app.py", data_id=None)
OTHER = SimpleNamespace(module="app", name="other", file="/app.py", data_id=None)


class Worker:
    """A run in this process, and what stands in its spool."""

    def __init__(self, run: WorkerRun, path: Path) -> None:
        self.run = run
        self._path = path

    def call(self, number: int, task: Any = TASK, body: Any = int, last: bool = False) -> None:
        self.run.measured(number, task, last, body)

    def text(self) -> bytes:
        return self._path.read_bytes()

    def lines(self) -> list[tuple[str, int]]:
        found = [json.loads(line) for line in self.text().splitlines()]
        return [(line.get("event", line.get("status")), line["task_id"]) for line in found]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    spool = Spool.of_run("lines")
    on_workers = RunOnWorkers("lines", "app", node_name(), str(spool.root), True, 1.0)
    run = WorkerRun(on_workers, None, lambda message: None, samples=False)
    yield Worker(run, spool.tasks(os.getpid()))
    run.bundle_ended()  # a window that stayed open would be one in the next test's process too
    run.close()


def test_each_call_has_a_line_when_it_begins_and_one_when_it_ends(worker: Worker) -> None:
    said_within: list[Any] = []
    worker.call(1, body=lambda: said_within.append(worker.lines()))
    worker.call(2, task=OTHER)
    worker.run.bundle_ended()
    assert said_within == [[("start", 1)]]
    assert worker.lines() == [("start", 1), ("finished", 1), ("start", 2), ("finished", 2)]


def test_what_the_sampler_reports_is_in_the_record_of_the_call(worker: Worker, tmp_path: Path) -> None:
    writer = PeakWriter(str(worker.run.spool.sampled(os.getpid())))
    worker.call(1, body=lambda: writer.add(SampledPeak(5, b"sort", gpu_bytes=7)))
    worker.call(2, body=lambda: writer.add(SampledPeak(None, b"", is_unreadable=True)))
    worker.call(3, last=True)
    records = [json.loads(line) for line in worker.text().splitlines() if b'"event"' not in line]
    names = ("children_peak_bytes", "children_method", "children_command", "gpu_peak_bytes", "reason")
    assert [[record.get(name) for name in names] for record in records] == [
        [5, "sampled", "sort", 7, None],
        [None, "missed", None, None, "the rss of a child process could not be read"],
        [None] * 5,
    ]
    assert all(record["peak_bytes"] > 0 for record in records)


def test_a_call_that_could_not_begin_has_no_line(worker: Worker) -> None:
    worker.call(1)
    worker.run.bundle_ended()
    assert worker.lines() == [("start", 1), ("finished", 1)]
    lines = TaskLines()
    lines.feed("n", {1: worker.text()})
    assert (lines.running, lines.skipped) == (0, 0)


def test_a_call_that_raises_is_followed_as_one_that_returns(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        worker.call(1, body=lambda: 1 // 0)
    worker.call(2, last=True)
    assert worker.lines() == [("start", 1), ("failed", 1), ("start", 2), ("finished", 2)]


def test_nothing_is_written_of_a_call_that_ends_after_the_run(worker: Worker) -> None:
    worker.call(1, body=worker.run.stop)
    worker.call(2)
    assert worker.lines() == [("start", 1)]


def test_a_killed_process_leaves_the_line_of_the_call_that_ran_and_all_before(worker: Worker) -> None:
    worker.call(1)
    child = os.fork()
    if child == 0:
        try:
            worker.call(2, body=lambda: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    lines = TaskLines()
    lines.feed("n", {1: worker.text()})
    (unfinished,) = lines.pop_unfinished()
    assert (unfinished.task_id, unfinished.name, unfinished.status, lines.ended) == (2, "work", "running", 1)
    assert unfinished.base_bytes is not None


def test_each_of_many_short_calls_has_its_own_values_whatever_the_ones_around_it_do(
    worker: Worker,
) -> None:
    kept: list[Any] = []
    bodies = {
        20: lambda: kept.append(touched(8)),  # stays until
        40: kept.clear,
        60: lambda: touched(30).close(),
        80: lambda: set_record_fields(data_id={"visit": 1}),
        100: lambda: time.sleep(0.01),
    }
    for number in range(1, 121):
        worker.call(number, body=bodies.get(number, int))
    worker.run.bundle_ended()
    lines = [json.loads(line) for line in worker.text().splitlines()]
    records = {line["task_id"]: line for line in lines if "event" not in line}
    assert list(records) == list(range(1, 121))
    for one, after in pairwise(records.values()):
        assert after["start_s"] == one["end_s"]
        if one["task_id"] not in (20, 60):  # what these left in the allocator is given back before the next one
            assert after["base_bytes"] == one["end_bytes"]
        assert 0 <= one["cpu_s"] <= one["end_s"] - one["start_s"] + 0.002
        assert one["increment_bytes"] == one["peak_bytes"] - one["base_bytes"]
        assert one.keys() - {"data_id"} == records[120].keys()
    mebibytes = {number: round(one["increment_bytes"] / 2**20) for number, one in records.items()}
    assert {number: size for number, size in mebibytes.items() if size} == {20: 8, 60: 30}
    assert round((records[40]["base_bytes"] - records[40]["end_bytes"]) / 2**20) == 8
    assert records[80]["data_id"] == {"visit": 1}
    assert records[100]["end_s"] - records[100]["start_s"] >= 0.01
    starts = [line["task_id"] for line in lines if "event" in line]
    assert starts == list(records)


def touched(mebibytes: int) -> mmap.mmap:
    area = mmap.mmap(-1, mebibytes << 20)
    for place in range(0, len(area), 4096):
        area[place] = 1
    return area


def test_the_increment_of_memory_that_a_call_tells_itself_is_peak_less_base(worker: Worker) -> None:
    worker.call(1, body=lambda: set_record_fields(base_bytes=10, peak_bytes=50))
    worker.call(2, body=lambda: set_record_fields(base_bytes=None, peak_bytes=50))
    ended = [json.loads(line) for line in worker.text().splitlines() if b'"event"' not in line]
    assert [line["increment_bytes"] for line in ended] == [40, None]
    assert [line["held_bytes"] for line in ended] == [None, None]
