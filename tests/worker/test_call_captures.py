"""Files with recorded allocations reach the run directory whole; tasks that cannot be recorded are named."""

import os

import pytest

from runmem.collection.collector import Collector
from runmem.collection.observer import Observer, Observers
from runmem.collection.recorder import ProfileWriter
from runmem.collection.replicas import Replicas, remove_replicas
from runmem.graph.task import task
from runmem.memory.memray_capture import is_recording
from runmem.memory.profile import profile, set_report_sink
from runmem.store.layout import RunDirectory, Spool
from runmem.worker.call_captures import CaptureSender, files_in_spool, recording


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    spool = Spool.of_run("run")
    spool.make()
    return spool


def test_a_large_file_arrives_as_it_was_and_the_spool_keeps_only_that_it_was(spool, tmp_path):
    run = RunDirectory.create("app", tmp_path / "runs")
    losses = []
    observers = Observers([ProfileWriter(run, False, losses.append)])
    collector = Collector("run", run, Replicas(run, None), observers, None, lambda: None)
    files = files_in_spool(spool.root, "node 1")
    sender, contents = CaptureSender(spool), []
    for _ in range(2):
        path = files.take("Class.method")
        contents.append(os.urandom(1_300_000))
        path.write_bytes(contents[-1])
        sender.send(path)
        assert path.stat().st_size == 0  # it still counts as a recorded call
    sender.close()
    collector.collect(last=True)
    names = ["memray-Class.method-node_1-1.bin", "memray-Class.method-node_1-2.bin"]
    assert sorted(path.name for path in run.profiles.iterdir()) == names
    assert [(run.profiles / name).read_bytes() for name in names] == contents
    assert losses == []
    assert [*run.replicas.glob("*/captures-*.jsonl")]
    remove_replicas(run)
    assert not run.replicas.exists()


def test_a_part_that_cannot_be_written_is_reported(spool, tmp_path):
    run = RunDirectory.create("app", tmp_path / "runs")
    losses = []
    observers: list[Observer] = [ProfileWriter(run, False, losses.append)]
    collector = Collector("run", run, Replicas(run, None), Observers(observers), None, lambda: None)
    path = files_in_spool(spool.root, "n").take("f")
    path.write_bytes(b"1")
    CaptureSender(spool).send(path)
    (run.profiles / path.name).mkdir()
    collector.collect(last=True)
    assert "Is a directory" in losses[0].reason


@task()
def plain():
    return is_recording()


@task()
@profile
def with_table():
    return is_recording()


@task()
@profile(backend="memray")
def by_itself():
    return is_recording()


def test_tasks_are_recorded_by_name_and_refused_with_the_reason(tmp_path, monkeypatch):
    pytest.importorskip("memray", reason="memray (extra `memray`) is not installed")
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    reports = []
    set_report_sink(reports.append, files_in_spool(tmp_path, "n"))
    names = ["plain", f"{with_table.module}.with_table", "by_itself"]
    try:
        ran = {each.name: recording(names, each, each.function)() for each in (plain, with_table, by_itself)}
        assert not recording(["another"], plain, plain.function)()
        for _ in range(3):
            recording(names, with_table, with_table.function)
    finally:
        set_report_sink(None)
    assert ran == {"plain": True, "with_table": False, "by_itself": True}
    by_name = {(report.name, report.recorded_by): report.not_recorded for report in reports}
    assert by_name["plain", "memray"] is None
    assert by_name["by_itself", "memray"] is None
    refused = [report for report in reports if report.not_recorded]
    assert [report.name for report in refused] == ["with_table"]  # once
    assert "another backend" in refused[0].text
