from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runmem.collection.collector import Collector
from runmem.collection.observer import Observer, Observers
from runmem.collection.replicas import Replicas
from runmem.collection.spool_reader import SpoolNews
from runmem.dashboard.memory_warnings import MemoryWarnings
from runmem.events import DataLost, RecordLines
from runmem.formats.memory_events import MemoryEvent
from runmem.store.layout import RunDirectory, Spool
from runmem.store.line_writer import LineWriter
from runmem.store.records import record_from_line
from runmem.units import MIB


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create("app", tmp_path / "runs")


@pytest.fixture
def replicas(run: RunDirectory, tmp_path: Path) -> Replicas:
    return Replicas(run, tmp_path / "shown")


def test_a_copy_is_written_at_its_offset_and_writing_twice_is_harmless(run: RunDirectory, replicas: Replicas) -> None:
    path = run.replica("n", "tasks-1.jsonl")
    for offset, data in ((4, b"two\n"), (0, b"one\n"), (4, b"two\n")):
        replicas.write("n", "tasks-1.jsonl", offset, data)
    assert path.read_bytes() == b"one\ntwo\n"
    assert replicas.finish() == []


def test_a_trace_appears_in_its_folder_at_once(run: RunDirectory, replicas: Replicas, tmp_path: Path) -> None:
    shown = tmp_path / "shown" / "n.dat"
    replicas.write("n", "n.dat", 0, b"MEM 1 1\n")
    assert shown.read_bytes() == b"MEM 1 1\n"
    replicas.write("n", "n.dat", 8, b"MEM 2 2\n")
    assert shown.read_bytes() == b"MEM 1 1\nMEM 2 2\n"
    assert list(replicas.links.values()) == [shown]


def test_the_trace_of_an_earlier_run_gives_way_and_stays_in_its_own_directory(tmp_path: Path) -> None:
    for number in (1, 2):
        run = RunDirectory.create("app", tmp_path / "runs")
        Replicas(run, tmp_path / "shown").write("n", "n.dat", 0, b"MEM %d 1\n" % number)
    assert (tmp_path / "shown" / "n.dat").read_bytes() == b"MEM 2 1\n"
    assert (tmp_path / "runs" / "app_01" / "traces" / "n.dat").read_bytes() == b"MEM 1 1\n"


def test_two_runs_at_once_in_a_folder_leave_each_other_their_traces(tmp_path: Path) -> None:
    """The one that began last has the name of the node; that of the master is the next second that is free."""
    shown, master = tmp_path / "shown", "mprofile_20261128195959.dat"
    both = [Replicas(RunDirectory.create("app", tmp_path / "runs"), shown) for _ in range(2)]
    for offset in (0, 8):
        for number, replicas in enumerate(both):
            for file in ("n.dat", master):
                replicas.write("n", file, offset, b"MEM %d 1\n" % number)
    assert [replicas.finish() for replicas in reversed(both)] == [[], []]
    for number in range(2):
        for file in ("n.dat", master):
            trace = tmp_path / "runs" / f"app_0{number + 1}" / "traces" / file
            assert trace.read_bytes() == b"MEM %d 1\n" % number * 2
    assert (shown / "n.dat").read_bytes() == b"MEM 1 1\n" * 2
    assert (shown / master).read_bytes() == b"MEM 0 1\n" * 2
    assert (shown / "mprofile_20261128200000.dat").read_bytes() == b"MEM 1 1\n" * 2
    first, second = ([path for path in replicas.links.values()] for replicas in both)
    assert first == [tmp_path / "runs" / "app_01" / "traces" / "n.dat", shown / master]
    assert second == [shown / "n.dat", shown / "mprofile_20261128200000.dat"]


def test_what_a_full_disk_refused_is_written_when_there_is_room(
    run: RunDirectory, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    replicas.write("n", "tasks-1.jsonl", 0, b"one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        replicas.write("n", "tasks-1.jsonl", 4, b"two\n")
        replicas.write("n", "tasks-1.jsonl", 8, b"three\n")
    assert run.replica("n", "tasks-1.jsonl").read_bytes() == b"one\n"
    replicas.write("n", "tasks-1.jsonl", 14, b"four\n")
    assert run.replica("n", "tasks-1.jsonl").read_bytes() == b"one\ntwo\nthree\nfour\n"
    assert replicas.finish() == []


def test_only_what_is_written_counts_as_synced(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    file, replicas = "tasks-1.jsonl", Replicas(run, tmp_path / "shown", backlog_bytes=5)
    assert replicas.synced("n", file, 4) == 0
    replicas.write("n", file, 0, b"one\n")
    assert replicas.synced("n", file, 4) == 4
    assert replicas.synced("n", file, 8) == 0  # it says that it has less
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        replicas.write("n", file, 4, b"two\n")
        assert replicas.synced("n", file, 8) == 4
        replicas.write("n", file, 8, b"three\n")  # the backlog has no room: it is lost
    replicas.write("n", file, 14, b"four\n")
    assert replicas.synced("n", file, 19) == 8
    run.replica("n", file).unlink()
    assert replicas.synced("n", file, 19) == 0


@pytest.fixture
def small_run(tmp_path: Path) -> Iterator[RunDirectory]:
    """Return a run directory on a real file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    yield RunDirectory.create("app", folder)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_stays_full_leaves_whole_lines_and_a_statement(small_run: RunDirectory, tmp_path: Path) -> None:
    replicas = Replicas(small_run, tmp_path / "shown")
    line = b"x" * 999 + b"\n"
    for number in range(20):
        replicas.write("n", "tasks-1.jsonl", number * 5000, line * 5)
    path = small_run.replica("n", "tasks-1.jsonl")
    (lost,) = replicas.finish()
    assert lost.place == str(path)
    assert "bytes could not be written (disk full?)" in lost.reason
    assert int(lost.reason.split()[0]) > 30_000
    text = path.read_bytes()
    assert text.endswith(b"\n")
    assert set(text.splitlines(keepends=True)) == {line}


class Notes(Observer):
    def __init__(self) -> None:
        self.lost: list[str] = []
        self.records = b""

    def data_lost(self, event: DataLost) -> None:
        self.lost.append(f"{event.place}: {event.reason}")

    def records_written(self, event: RecordLines) -> None:
        self.records += event.lines


def test_foreign_lines_in_a_spool_cost_only_themselves(
    run: RunDirectory, replicas: Replicas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool.of_run("run-1")
    spool.make()
    task = SimpleNamespace(module="app", name="work", file="a.py", data_id=None)
    writer = LineWriter("n", None, os.getpid())
    values = {"base_bytes": 1, "peak_bytes": 3, "end_bytes": 2, "method": "hwm"}
    good = writer.start(task, 1, 7, 1.0, 1) + writer.end(task, 1, 7, (1.0, 2.0, 0.1), "finished", None, values)
    spool.profiles(5).write_bytes(b'\xff\x00\n{"node": 3}\n[]\n')
    (spool.root / "deaths-5.jsonl").write_bytes(b"{}\n\xff\n")
    spool.file("n.dat").write_bytes(b"MEM\nMEM x y\n\xff\xfe\nLOST\nMEM 1.0 2.0\n")
    spool.tasks(5).write_bytes(b"\xff\n" + good)
    notes = Notes()
    collector = Collector("run-1", run, replicas, Observers([notes]), None, lambda: None)
    collector.collect()
    collector.finish(all_ended=True)
    assert [record_from_line(line).task_id for line in notes.records.splitlines()] == [1]
    assert notes.lost
    for file in ("profiles-5.jsonl", "deaths-5.jsonl", "tasks-5.jsonl"):
        assert list(run.replicas.glob(f"*/{file}"))


def test_of_what_comes_twice_only_the_rest_is_taken(
    run: RunDirectory, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [(0, b"one\n"), (0, b"one\ntwo\n"), (12, b"four\n"), (0, b"one\n"), (4, b"two\nthree\n")]
    news = iter([SpoolNews("n", {"deaths-1.txt": piece}) for piece in pieces])
    monkeypatch.setattr("runmem.collection.collector.read_spool", lambda *_: next(news))
    collector = Collector("run-1", run, replicas, Observers([]), None, lambda: None)
    for _ in pieces:
        collector.collect()
    assert run.replica("n", "deaths-1.txt").read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("kind", ["file", "device", "link to a file", "link to nothing", "link to a device"])
def test_a_trace_is_written_to_what_is_there(
    kind: str, run: RunDirectory, replicas: Replicas, make_target: Any, tmp_path: Path
) -> None:
    target = make_target(kind, tmp_path / "shown" / "n.dat")
    replicas.write("n", "n.dat", 0, b"MEM 1 1\n")
    replicas.write("n", "n.dat", 8, b"MEM 2 2\n")
    if target.keeps_content:
        assert target.content() == b"MEM 1 1\nMEM 2 2\n"
    assert replicas.finish() == []
    target.check()
    assert run.replica("n", "n.dat").read_bytes() == b"MEM 1 1\nMEM 2 2\n"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("pipe", "it is a pipe"), ("folder", "it is a folder"), ("socket", "it is a socket"),
     ("block device", "it is a block device"), ("link to a folder", "it is a folder")],
)  # fmt: skip
def test_a_trace_does_not_replace_what_is_no_file_and_says_where_it_is(
    kind: str, reason: str, run: RunDirectory, replicas: Replicas, make_target: Any, tmp_path: Path
) -> None:
    target = make_target(kind, tmp_path / "shown" / "n.dat")
    replicas.write("n", "n.dat", 0, b"MEM 1 1\n")
    (lost,) = replicas.finish()
    assert lost.place == str(target.path)
    assert lost.reason.startswith(f"the trace could not be copied here: {reason}")
    assert lost.reason.endswith(f"it is in {run.replica('n', 'n.dat')}")
    target.check()


def test_a_trace_on_another_file_system_keeps_the_mode_of_the_earlier_one(
    run: RunDirectory, replicas: Replicas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "shown" / "n.dat"
    shown.parent.mkdir()
    shown.write_text("earlier")
    shown.chmod(0o604)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    replicas.write("n", "n.dat", 0, b"MEM 1 1\n")
    assert replicas.finish() == []
    assert (shown.read_bytes(), shown.stat().st_mode & 0o777) == (b"MEM 1 1\n", 0o604)


def test_the_reason_of_a_kill_is_that_of_the_last_attempt(
    run: RunDirectory, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the first attempt was killed is known at once, and its last one is waited for, or it would seem lost."""
    task = SimpleNamespace(module="app", name="work", file="a.py", data_id=None)
    files = {f"tasks-{pid}.jsonl": (0, LineWriter("n", None, pid).start(task, 1, 7, float(pid), 1)) for pid in (11, 12)}
    files["deaths-5.jsonl"] = 0, b'{"pid": 11, "cause": "first"}\n'
    first = SpoolNews("n", files, dead=[11])
    death = b'{"pid": 12, "cause": "last"}\n'
    last = SpoolNews("n", {"deaths-5.jsonl": (len(files["deaths-5.jsonl"][1]), death)}, dead=[11, 12])
    news = iter([first, SpoolNews("n", {}, dead=[11]), last])
    monkeypatch.setattr("runmem.collection.collector.read_spool", lambda *_: next(news, last))
    notes = Notes()
    collector = Collector("run-1", run, replicas, Observers([notes]), 0.1, lambda: None)
    collector.collect()
    assert [record_from_line(line).reason for line in notes.records.splitlines()] == ["first"]
    assert collector.kill_of(1).text == "last"
    collector.finish(all_ended=True)
    records = [record_from_line(line) for line in notes.records.splitlines()]
    assert [(record.status, record.attempt, record.reason) for record in records] == [
        ("killed", 1, "first"), ("killed", 2, "last"),
    ]  # fmt: skip


def test_who_ran_beside_a_task_whose_time_was_up_is_told_so(
    run: RunDirectory, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = SimpleNamespace(module="app", name="work", file="a.py", data_id=None)
    writer = LineWriter("n", None, 11)
    files = {
        "tasks-11.jsonl": (0, writer.start(task, 1, 7, 1.0, 1) + writer.start(task, 2, 8, 1.5, 1)),
        "deaths-5.jsonl": (
            0,
            b'{"pid": 11, "cause": "exceeded its time limit of 3 s", "task_id": 1, "stack": "here"}\n',
        ),
    }
    monkeypatch.setattr("runmem.collection.collector.read_spool", lambda *_: SpoolNews("n", files, dead=[11]))
    notes = Notes()
    collector = Collector("run-1", run, replicas, Observers([notes]), 0.1, lambda: None)
    collector.collect()
    late, beside = (record_from_line(line) for line in notes.records.splitlines())
    assert (late.reason, late.stack) == ("exceeded its time limit of 3 s", "here")
    assert (beside.reason, beside.stack) == ("call 1, which ran in the same process, reached its time limit", None)


def test_a_node_is_lost_with_its_job_and_slurm_says_why(
    run: RunDirectory, replicas: Replicas, monkeypatch: pytest.MonkeyPatch, program: Any, eventually: Any
) -> None:
    """Two workers of one job and one of another, which still runs."""
    program("squeue", "echo '12|OUT_OF_MEMORY|OutOfMemory|N/A'; echo '13|RUNNING|None|N/A'")
    task = SimpleNamespace(module="app", name="work", file="a.py", data_id=None)
    files = {f"tasks-{pid}.jsonl": (0, LineWriter("n", None, pid).start(task, pid, 7, 1.0, 1)) for pid in (11, 12, 13)}
    jobs = {11: "12", 12: "12", 13: "13"}
    line = '{"pid": %d, "system": "Slurm", "number": "%s", "step": null, "memory_bytes": 5}\n'
    files["jobs.jsonl"] = 0, "".join(line % item for item in jobs.items()).encode()
    monkeypatch.setattr("runmem.collection.collector.read_spool", lambda *_: SpoolNews("n", files, is_lost=True))
    notes = Notes()
    collector = Collector("run-1", run, replicas, Observers([notes]), 0.1, lambda: None)

    def records() -> list[Any]:
        collector.collect()
        return [record_from_line(line) for line in notes.records.splitlines()]

    found = {record.task_id: record for record in eventually(lambda: records() if len(records()) == 3 else None)}
    causes = {number: (record.death.cause, record.death.limit_bytes) for number, record in found.items()}
    assert causes == {11: ("slurm limit", 5), 12: ("slurm limit", 5), 13: ("node gone", None)}
    assert found[13].reason.endswith("job 13 of Slurm is still RUNNING")
    assert collector.nodes["n"]["jobs"] == ["job 12 of Slurm", "job 13 of Slurm"]
    collector.finish(all_ended=True)


def test_a_worker_that_dask_has_ended_in_a_task_is_not_reported_twice(
    run: RunDirectory, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the task and of its end may be read at once, those of the trace first."""
    task = SimpleNamespace(module="app", name="work", file="a.py", data_id=None)
    events = b"".join(MemoryEvent("terminated", pid, 2.0, 9 * MIB).line() for pid in (11, 12))
    files = {"n.dat": (0, events), "tasks-11.jsonl": (0, LineWriter("n", None, 11).start(task, 1, 7, 1.0, 1))}
    monkeypatch.setattr("runmem.collection.collector.read_spool", lambda *_: SpoolNews("n", files))
    stream = io.StringIO()
    collector = Collector("run-1", run, replicas, Observers([MemoryWarnings(stream)]), 0.1, lambda: None)
    collector.collect()
    assert re.findall("worker (.*) on n", stream.getvalue()) == ["12"]  # which ran none
