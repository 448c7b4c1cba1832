"""The collector with many nodes, whose lines are made by the code of samplers and workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runmem.collection.collector import Collector
from runmem.collection.observer import Observer, Observers
from runmem.collection.pace import Pace, WantedInterval
from runmem.collection.recorder import Recorder
from runmem.collection.replicas import Replicas
from runmem.collection.spool_reader import SpoolNews
from runmem.events import NodeSampled, TasksRunning
from runmem.formats.mprof import read_trace
from runmem.node.trace_lines import TraceLines
from runmem.store.layout import RunDirectory, worker_series
from runmem.store.line_writer import LineWriter
from runmem.store.records import record_from_line
from runmem.units import MIB

NODES, WORKERS, ROUNDS, TICKS = 20, 64, 5, 4
TASK = SimpleNamespace(module="app", name="work", file="app.py", data_id=None)
Offsets = dict[str, dict[str, int]]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create("app", tmp_path / "runs")


class Seen(Observer):
    def __init__(self) -> None:
        self.running: list[int] = []
        self.sampled: dict[str, list[NodeSampled]] = {}

    def tasks_running(self, event: TasksRunning) -> None:
        self.running.append(event.count)

    def node_sampled(self, event: NodeSampled) -> None:
        self.sampled.setdefault(event.node, []).append(event)


def lines_of_a_node(number: int) -> Iterator[dict[str, bytes]]:
    """Yield the new lines of a node in each round: four readings, and a call in each of two workers.

    One of the calls is still running at the end.
    """
    name, trace = f"node{number}", TraceLines()
    for pid in range(WORKERS):
        trace.add(pid, worker_series(pid))
        trace.change(pid, (pid * MIB, MIB))
    for turn in range(ROUNDS):
        ticks = []
        for tick in range(TICKS):
            trace.change(turn, (number * MIB, MIB))
            ticks.append(trace.at(1000.0 + turn * 0.4 + tick * 0.1))
        found = {f"{name}.dat": b"".join(ticks)}
        for pid in (2 * turn, 2 * turn + 1):
            writer, task_id = LineWriter(name, None, pid), 1 + (number * ROUNDS * 2) + pid
            found[f"tasks-{pid}.jsonl"] = writer.start(TASK, task_id, 7, 1000.0, 1)
            if pid < 2 * ROUNDS - 1:
                found[f"tasks-{pid}.jsonl"] += writer.end(TASK, task_id, 7, (1000.0, 1001.0, 0.5), "finished", None, {})
        yield found


def test_all_lines_of_many_nodes_reach_the_run_directory(run: RunDirectory) -> None:
    nodes = {f"node{number}": lines_of_a_node(number) for number in range(NODES)}
    written: dict[tuple[str, str], bytes] = {}

    def read(offsets: Offsets, *_: object) -> Iterator[tuple[str, SpoolNews]]:
        for name, rounds in nodes.items():
            files = {}
            for file, data in next(rounds, {}).items():
                offset = len(written.get((name, file), b""))
                assert offsets.get(name, {}).get(file, 0) == offset
                written[name, file] = written.get((name, file), b"") + data
                files[file] = offset, data
            yield name, SpoolNews(name, files)

    recorder, seen = Recorder(run), Seen()
    collector = Collector("run-1", run, Replicas(run, None), Observers([recorder, seen]), 0.1, lambda: None)
    collector.add_remote(read, set())
    for _ in range(ROUNDS):
        collector.collect()
    assert written
    for (name, file), data in written.items():
        assert run.replica(name, file).read_bytes() == data
    assert seen.running[-1] == NODES
    calls = NODES * ROUNDS * 2
    assert collector.calls_recorded == calls - NODES
    assert {len(events) for events in seen.sampled.values()} == {ROUNDS}
    last = seen.sampled["node7"][-1]
    trace = read_trace(run.replica("node7", "node7.dat"))
    assert last.time_s == pytest.approx(1000.0 + (ROUNDS - 1) * 0.4 + 0.3)
    assert last.total_bytes == pytest.approx(int(trace.totals_bytes[-1]), abs=2)
    assert (len(trace.children), len(trace.times_s), trace.skipped) == (WORKERS, ROUNDS * TICKS, 0)
    collector.finish(all_ended=False)
    records = [record_from_line(line) for line in run.tasks_jsonl.read_bytes().splitlines()]
    assert sorted(record.task_id for record in records if record) == list(range(1, calls + 1))
    assert sum(record.status == "cancelled" for record in records if record) == NODES


def test_the_intervals_of_a_collector_follow_how_long_it_takes(
    run: RunDirectory, eventually: Callable[..., object]
) -> None:
    """The nodes are slow, then they are quick."""
    slow, asked = threading.Event(), []
    slow.set()

    def read(_: Offsets, __: object, wanted: WantedInterval | None) -> Iterator[tuple[str, SpoolNews]]:
        asked.append(wanted and wanted.seconds)
        threading.Event().wait(0.06 if slow.is_set() else 0)
        yield "n", SpoolNews("n", {"n.dat": (0, b"MEM 1.0 2.0\n")})

    pace = Pace(0.1, shortest_pause_s=0.001, longest_pause_s=0.05)
    collector = Collector("run-1", run, Replicas(run, None), Observers([]), 0.1, lambda: None, pace=pace)
    collector.add_remote(read, set())
    collector.start()
    try:
        eventually(lambda: 0.4 in asked)
        assert pace.pause_s == 0.05
        slow.clear()
        eventually(lambda: asked[-1] == 0.1)
        eventually(lambda: pace.pause_s < 0.05)
    finally:
        collector.finish(all_ended=True)
    order = list(dict.fromkeys(asked))
    assert order[:3] == [None, 0.2, 0.4]
    assert any("shortened" in note for note in pace.notes())
