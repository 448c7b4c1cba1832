from __future__ import annotations

from pathlib import Path

import pytest

from runmem.collection.recorder import ProfileWriter, Recorder
from runmem.events import DataLost, ProfileReported, RecordLines, RunEnded
from runmem.store.layout import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create("app", tmp_path)


def report(name: str, text: str) -> ProfileReported:
    return ProfileReported("n", 5, 1, name, text)


def test_records_are_appended_and_counted(run: RunDirectory) -> None:
    recorder = Recorder(run)
    recorder.records_written(RecordLines(b"one\ntwo\n", 2))
    recorder.records_written(RecordLines(b"three\n", 1))
    recorder.run_ended(RunEnded(0))
    assert run.tasks_jsonl.read_bytes() == b"one\ntwo\nthree\n"
    assert recorder.records == 3
    assert recorder.lost == []


def test_the_same_loss_is_stated_once(run: RunDirectory) -> None:
    recorder = Recorder(run)
    for _ in range(3):
        recorder.data_lost(DataLost("node1", "disk full"))
    recorder.data_lost(DataLost("node2", "disk full"))
    recorder.run_ended(RunEnded(0))
    assert recorder.lost == ["node1: disk full", "node2: disk full"]


def test_reports_go_to_a_file_for_each_function_in_their_order(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = ProfileWriter(run, False, lambda lost: None)
    for event in (report("f", "first"), report("g.<lambda>", "other\n"), report("f", "second\n\n")):
        writer.profile_reported(event)
    writer.run_ended(RunEnded(0))
    assert {path.name: path.read_text() for path in run.profiles.iterdir()} == {
        "f.txt": "first\nsecond\n",
        "g._lambda_.txt": "other\n",
    }
    assert capsys.readouterr().out == ""


def test_reports_are_shown_on_request(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    writer = ProfileWriter(run, True, lambda lost: None)
    writer.profile_reported(report("f", "a table"))
    writer.run_ended(RunEnded(0))
    assert capsys.readouterr().out == "a table\n"
