"""What is recorded of targets in forked processes."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from runmem.serialization.task_error import PackedError
from runmem.store.layout import Spool
from runmem.store.records import record_from_line
from runmem.task_runner.isolation import Ended
from runmem.task_runner.target_records import (
    Begun,
    Measured,
    Slots,
    TargetLines,
    ToldLog,
    packed_end,
    packed_loss,
    unpacked,
)

VALUES = {"base_bytes": 100, "peak_bytes": 300, "end_bytes": 200, "method": "hwm", "shared": False, "reason": None,
          "lifetime_peak_bytes": 400, "target_pid": 7}  # fmt: skip
MEASURED = Measured((10.0, 11.5, 0.25), "finished", None, VALUES)


def test_a_slot_tells_of_the_target_that_a_process_is_at():
    slots = Slots(2)
    assert (slots.target_of(1), slots.begun_by(1)) == (0, None)
    slots.begin(1, 5, 10.5, 100)
    slots.begin(0, 6, 11.5)
    assert slots.begun_by(1) == Begun(5, 10.5, 100)
    assert slots.begun_by(0) == Begun(6, 11.5, None)
    slots.end(1)
    assert (slots.target_of(1), slots.begun_by(1)) == (0, None)
    assert slots.target_of(0) == 6


def test_a_target_that_is_not_measured_has_not_begun_for_the_records():
    slots = Slots(1)
    slots.begin(0, 5, None)
    assert (slots.target_of(0), slots.begun_by(0)) == (5, None)


def test_a_slot_is_there_after_its_process_was_killed():
    slots = Slots(1)
    pid = os.fork()
    if pid == 0:
        ToldLog(slots, 0).begins(None, 3, 1, 12.0, 50)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert slots.begun_by(0) == Begun(3, 12.0, 50)


def test_how_a_target_ended_arrives_as_it_was_told():
    ended = Ended("node7", 12, b"value", None, [("dataId={'visit': 1}", "ValueError: no")], None, False)
    assert unpacked(packed_end(3, ended, MEASURED)) == (3, ended, MEASURED)
    assert unpacked(packed_end(0, ended, None)) == (0, ended, None)


def test_what_a_target_raised_arrives():
    raised = PackedError.of(ValueError("no"))
    index, ended, _ = unpacked(packed_end(3, Ended("node7", 12, None, raised, [], None, False), MEASURED))
    assert index == 3
    with pytest.raises(ValueError, match="no"):
        raise ended.raised.load()


def test_a_loss_arrives():
    assert unpacked(packed_loss("process 5", "all of it")) == ("process 5", "all of it")


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path)


@pytest.fixture
def lines(tmp_path):
    def task_of(target):
        return SimpleNamespace(module="app", name="run", file="/app.py", data_id=f"{{visit: {target}}}")

    return TargetLines(tmp_path, "n", 1000, 55, task_of)


def written(spool) -> list[dict]:
    return [json.loads(line) for line in spool.tasks(55).read_text().splitlines()]


def test_a_target_that_was_seen_running_has_a_line_for_its_start_and_one_for_its_end(spool, lines):
    lines.begun(Begun(2, 10.0, 100))
    lines.begun(Begun(2, 10.0, 100))
    lines.flush()
    assert [(line["event"], line["task_id"], line["base_bytes"]) for line in written(spool)] == [("start", 2, 100)]
    lines.ended(2, MEASURED)
    lines.close()
    (_, line) = spool.tasks(55).read_bytes().splitlines()
    record = record_from_line(line)
    assert (record.task_id, record.pid, record.data_id, record.status) == (2, 55, "{visit: 2}", "finished")
    assert (record.base_bytes, record.peak_bytes, record.end_bytes, record.lifetime_peak_bytes) == (100, 300, 200, 400)
    assert (record.start_s, record.end_s, record.cpu_s) == (10.0, 11.5, 0.25)
    assert json.loads(line)["target_pid"] == 7
    assert lines.lost is None


def test_a_short_target_has_its_end_alone(spool, lines):
    lines.ended(1, MEASURED)
    lines.ended(2, MEASURED)
    lines.flush()
    assert [(line["event"], line["task_id"], line["data_id"]) for line in written(spool)] == [
        ("end", 1, "{visit: 1}"),
        ("end", 2, "{visit: 2}"),
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
def test_what_could_not_be_written_is_told(tmp_path):
    Spool(tmp_path).tasks(55).symlink_to("/dev/full")
    lines = TargetLines(tmp_path, "n", None, 55, lambda _: SimpleNamespace(module="", name="", file="", data_id=""))
    lines.ended(1, MEASURED)
    lines.flush()
    lines.ended(2, MEASURED)
    lines.close()
    assert lines.lost == "2 lines about targets could not be written (disk full?)"
