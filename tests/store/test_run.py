from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.store.layout import RunDirectory, worker_series
from runmem.store.records import record_to_line
from runmem.store.run import each_record, newest_run, read_run, write_provenance
from runmem.units import MIB

ENDED = TaskRecord(1, "app", "work", "a.py", "n", 5, 1, 10.0, 1, 11.0, 0.1, 100, 300, 200, "hwm", status="finished")


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _run(tmp_path: Path, **provenance: Any) -> RunDirectory:
    run = RunDirectory.create("app", tmp_path)
    write_provenance(run, {"app": "app", "host": socket.gethostname(), "pid": _ended_process(), **provenance})
    return run


def _spooled(run: RunDirectory, pid: int, *lines: dict[str, Any]) -> None:
    folder = run.replica("n", f"tasks-{pid}.jsonl")
    folder.parent.mkdir(exist_ok=True)
    folder.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def _start(task_id: int, start_s: float) -> dict[str, Any]:
    return {
        "event": "start", "task_id": task_id, "attempt": 1, "start_s": start_s, "thread": 1, "base_bytes": 100,
        "module": "app", "name": "work", "file": "a.py", "node": "n", "pid": 5, "limit_bytes": None,
    }  # fmt: skip


def _end(task_id: int, start_s: float, end_s: float) -> dict[str, Any]:
    return {**_start(task_id, start_s), "event": "end", "end_s": end_s, "peak_bytes": 300, "status": "finished"}


def test_a_complete_run_is_read_from_its_records(tmp_path: Path) -> None:
    run = _run(tmp_path, records_complete=True, nodes={"n": {"memory_bytes": 5}}, ended_s=20.0)
    run.tasks_jsonl.write_bytes(record_to_line(ENDED))
    _spooled(run, 5, _start(2, 12.0))
    data = read_run(run.root)
    assert data.records == [ENDED]
    assert data.nodes == {"n": {"memory_bytes": 5}}
    assert data.skipped == {}
    assert read_run(run.run_json).records == [ENDED]


def test_torn_foreign_and_binary_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    run = _run(tmp_path, records_complete=True)
    wrong = json.dumps({**json.loads(record_to_line(ENDED)), "peak_bytes": "abc"}).encode() + b"\n"
    good = record_to_line(ENDED)
    run.tasks_jsonl.write_bytes(good + wrong + b"\xff\x00\n" + b"\n" + b'{"a": 1}\n' + good[:40])
    data = read_run(run.root)
    assert data.records == [ENDED]
    assert data.skipped == {"tasks.jsonl": 4}


def test_records_that_a_killed_master_did_not_write_are_read_from_the_copies(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.tasks_jsonl.write_bytes(record_to_line(ENDED))
    _spooled(run, 5, _start(1, 10.0), _end(1, 10.0, 11.0), _start(2, 12.0), _end(2, 12.0, 13.0), _start(3, 14.0))
    series = worker_series(5)
    (run.traces / "n.dat").write_text(
        "".join(f"MEM {size:.6f} {time_s:.4f}\nCHLD {series} {size:.6f} {time_s:.4f}\n"
                for size, time_s in ((1.0, 12.0), (2.0, 14.5), (3.0, 15.0), (2.5, 15.5)))
    )  # fmt: skip
    records = {record.task_id: record for record in read_run(run.root).records}
    assert sorted(records) == [1, 2, 3]
    assert records[1] == ENDED
    assert (records[2].status, records[2].peak_bytes) == ("finished", 300)
    assert records[3].status == "killed"
    assert (records[3].last_bytes, records[3].peak_bytes, records[3].end_s) == (int(2.5 * MIB), 3 * MIB, 15.5)


def test_the_children_of_a_killed_task_are_read_from_the_trace(tmp_path: Path) -> None:
    run = _run(tmp_path)
    _spooled(run, 5, _start(1, 10.0))
    lines = [f"CHLD worker-5 {size} {time_s}\n" for size, time_s in [(3, 9.0), (12, 10.5), (30, 11.0)]]
    lines += [f"CHILDREN worker-5 {name} {size} {time_s}\n" for name, size, time_s in
              [("early", 90, 9.0), ("small", 4, 10.5), ("large", 20, 11.0)]]  # fmt: skip
    lines += [f"GPU {name} {size} {time_s}\n" for name, size, time_s in
              [("gpu0", 500, 10.5), ("worker-5", 70, 9.0), ("worker-5", 30, 10.5), ("worker-5", 20, 11.0)]]  # fmt: skip
    (run.traces / "n.dat").write_text("".join(lines))
    (record,) = read_run(run.root).records
    assert (record.children_peak_bytes, record.children_method, record.children_command) == (
        20 * MIB, "sampled", "large",
    )  # fmt: skip
    assert record.gpu_peak_bytes == 30 * MIB
    assert (record.peak_bytes, record.last_bytes) == (10 * MIB, 10 * MIB)  # of the worker alone
    (run.traces / "n.dat").write_text("NOTE pss: values are proportional set sizes\n" + "".join(lines))
    (record,) = read_run(run.root).records
    assert record.reason is not None
    assert record.reason.endswith("(the readings are its pss)")


def test_an_unfinished_task_of_a_live_run_is_running(tmp_path: Path) -> None:
    run = _run(tmp_path, pid=os.getpid())
    _spooled(run, 5, _start(1, 10.0))
    assert [record.status for record in read_run(run.root).records] == ["running"]


def test_a_damaged_run_json_is_named_and_the_records_are_read(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.run_json.write_bytes(b'{"app": "ap')
    run.tasks_jsonl.write_bytes(record_to_line(ENDED))
    data = read_run(run.root)
    assert data.records == [ENDED]
    assert data.provenance == {}
    assert data.skipped == {}
    assert data.refused == ["run.json: it is not JSON: Unterminated string starting at in line 1"]


def test_provenance_is_written_whole(tmp_path: Path) -> None:
    run = _run(tmp_path, exit_code=3)
    assert read_run(run.root).provenance["exit_code"] == 3
    assert [path.name for path in run.root.iterdir() if path.suffix == ".partial"] == []


def test_the_first_error_is_raised_where_there_is_no_run_json_to_overwrite(small_disk: Path) -> None:
    run = RunDirectory.create("app", small_disk)
    with suppress(OSError):
        (small_disk / "filler").write_bytes(bytes(1 << 20))
    with pytest.raises(OSError, match="No space left"):
        write_provenance(run, {"app": "app"})


def test_the_newest_run_is_the_one_written_last(tmp_path: Path) -> None:
    first, second = _run(tmp_path), _run(tmp_path)
    os.utime(first.run_json, (1, 1))
    assert newest_run(tmp_path) == second.root


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"is not a run directory: it has no run.json"):
        read_run(tmp_path)
    with pytest.raises(SettingError, match=r"no run in .*start a program with"):
        newest_run(tmp_path)


def test_records_one_after_another_are_those_of_the_run_read_at_once(tmp_path: Path) -> None:
    directory = RunDirectory.create("app", tmp_path)
    record = TaskRecord(1, "app", "f", "app.py", "n1", 7, 7, 1.0, 1, 2.0, status="finished")
    directory.tasks_jsonl.write_bytes(record_to_line(record) + b"torn\n" + record_to_line(replace(record, task_id=2)))
    for complete in (False, True):
        write_provenance(directory, {"records_complete": complete})
        assert list(each_record(directory.run_json)) == read_run(directory.root).records
        assert len(list(each_record(directory.root))) == 2
    with pytest.raises(SettingError, match="not a run directory"):
        each_record(tmp_path)


@pytest.mark.parametrize("kind", ["file", "link to a file"])
def test_provenance_keeps_the_mode_and_a_link(kind: str, make_target: Any, tmp_path: Path) -> None:
    run = RunDirectory.create("app", tmp_path)
    target = make_target(kind, run.run_json)
    write_provenance(run, {"exit_code": 4})
    target.check()
    assert read_run(run.root).provenance == {"exit_code": 4}
