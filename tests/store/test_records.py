from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from runmem.deaths import Cause, Death
from runmem.events import TaskRecord
from runmem.store.records import killed, record_from_line, record_to_line

RECORD = TaskRecord(
    7, "app", "work", "/a/app.py", "node1", 123, 9876543210, 100.5, 1, 101.25, 0.5, 1000, 5000, 2000, "hwm", False,
    "finished", None, None, 10**9, 6000, None, None, 3000, None, 500,
)  # fmt: skip
OVER = Death(
    Cause.NANNY_LIMIT,
    "over its limit",
    None,
    None,
    10_000,
    "Dask's nanny",
    9000,
    -5,
    2**33,
    "g (call 2) with 1 B",
    "why",
)


def test_a_record_survives_a_round_trip() -> None:
    line = record_to_line(RECORD)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert record_from_line(line) == RECORD
    assert json.loads(line)["increment_bytes"] == 3000


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"shared": True}, {"exception": "KeyError", "status": "failed"}, {"reason": "no /proc", "peak_bytes": None},
        {"data_id": "visit=3"}, {"increment_unclear": "why"}, {"last_bytes": 7, "status": "killed", "end_s": None},
        {"name": 'f, "reason": null', "module": '{"event": "end", "task_id": 3, "next": 4', "attempt": 3},
        {"file": "/a, \"shared\": false\n", "node": "null"}, {"held_bytes": None, "increment_bytes": None},
        {"key": "('sum-12ab', 0, -1)", "layer": "sum-12ab", "worker": "tcp://10.0.0.5:1", "input_bytes": 3},
        {"children_peak_bytes": 5, "children_method": "sampled", "children_command": "sort"}, {"gpu_peak_bytes": 7},
        {"status": "killed", "death": OVER}, {"status": "killed", "death": Death.unknown("wh\u00fd")},
        {"recorded_by": "memray"},
        {"status": "killed", "argument_bytes": {"data": 5, "others": 0}},
        {"key": "f-1", "annotations": {"who": "me", "level": 2}, "output_bytes": 5},
    ],
)  # fmt: skip
def test_a_line_leaves_out_what_there_is_nothing_to_say_of_and_is_the_same_record(changes: dict[str, Any]) -> None:
    record = replace(RECORD, **changes)
    line = record_to_line(record)
    assert record_from_line(line) == record
    whole = json.dumps(asdict(record)).encode()
    assert record_from_line(whole) == record
    unsaid = {"exception", "last_bytes", "reason", "data_id", "increment_unclear", "stack", "extra", "shared"}
    unsaid |= {"parent_id", "death", "argument_bytes", "children_peak_bytes", "children_method", "children_command"}
    unsaid |= {"gpu_peak_bytes", "recorded_by"}
    unsaid |= {"key", "layer", "worker", "annotations", "input_bytes", "output_bytes"}
    first = {"attempt"} if record.attempt == 1 else set()
    assert json.loads(whole).keys() - json.loads(line).keys() == first | {n for n in unsaid if not getattr(record, n)}


def test_a_value_that_was_to_be_had_and_was_not_stays_in_the_line() -> None:
    line = record_to_line(replace(RECORD, peak_bytes=None, base_bytes=None, held_bytes=None))
    assert line.count(b"null") == 3


def test_what_is_missing_stays_none() -> None:
    record = replace(RECORD, base_bytes=None, peak_bytes=None, method=None, end_s=None, reason="no /proc")
    again = record_from_line(record_to_line(record))
    assert again == record
    assert again.increment_unclear is None
    assert again.elapsed_s is None


def test_a_record_of_an_earlier_version_is_read_without_what_it_did_not_know() -> None:
    values = json.loads(record_to_line(RECORD))
    del values["held_bytes"]
    assert "increment_unclear" not in values
    found = record_from_line(json.dumps(values).encode())
    assert found == replace(RECORD, held_bytes=None)


def test_the_increment_of_a_killed_task_is_unclear() -> None:
    found = killed(RECORD, ([100.6, 100.7], [3000, 7000]), Death.unknown("out of memory"))
    assert (found.increment_bytes, found.peak_bytes) == (6000, 7000)
    assert "not known" in str(found.increment_unclear)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cause": "struck by lightning"}, replace(OVER, cause=Cause.UNKNOWN)),
        ({"later": [1]}, OVER),
        ({"limit_bytes": 2**70}, None),
        ({"limit_bytes": 2**62 + 1}, None),
        ({"limit_bytes": "much"}, None),
        ({"limit_bytes": True}, None),
        ({"words": None}, None),
        ({"words": 3}, None),
    ],
)
def test_a_death_is_read_as_far_as_this_version_knows_it(changes: dict[str, Any], expected: Death | None) -> None:
    values = {**asdict(OVER), **changes}
    assert Death.from_values(values) == expected
    line = json.dumps({**asdict(RECORD), "status": "killed", "death": values}).encode()
    found = record_from_line(line)
    assert (None if found is None else found.death) == expected


@pytest.mark.parametrize("death", [[], 3, "killed", {}, {"cause": "exit"}])
def test_a_death_that_is_none_refuses_the_record_or_is_a_description(death: object) -> None:
    found = record_from_line(json.dumps({**asdict(RECORD), "death": death}).encode())
    assert found is None or (death == {"cause": "exit"} and found.death == Death(Cause.EXIT, "exit"))


def test_fields_of_a_later_version_are_passed_over() -> None:
    values = {**json.loads(record_to_line(RECORD)), "pss_bytes": {"a": [1]}}
    assert record_from_line(json.dumps(values).encode()) == RECORD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peak_bytes", "abc"), ("peak_bytes", True), ("peak_bytes", 1.5), ("peak_bytes", -1), ("base_bytes", []),
        ("limit_bytes", -5), ("name", None), ("name", 5), ("module", None), ("node", ["n"]), ("start_s", float("nan")),
        ("start_s", float("inf")), ("start_s", "1"), ("start_s", None), ("start_s", -1.0), ("end_s", float("nan")),
        ("cpu_s", {}), ("task_id", "7"), ("task_id", None), ("task_id", True), ("pid", 1.0), ("shared", 1),
        ("shared", None), ("status", None), ("exception", 3), ("attempt", 0.5), ("method", False),
    ],
)  # fmt: skip
def test_a_line_with_a_wrong_type_or_range_is_not_a_record(field: str, value: Any) -> None:
    assert record_from_line(json.dumps({**json.loads(record_to_line(RECORD)), field: value}).encode()) is None


@pytest.mark.parametrize("field", ["task_id", "start_s", "name", "module", "node", "pid", "thread", "file"])
def test_a_line_without_a_required_field_is_not_a_record(field: str) -> None:
    values = json.loads(record_to_line(RECORD))
    del values[field]
    assert record_from_line(json.dumps(values).encode()) is None


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[1]", b"3", b"null", b"\xff\xfe\x00", b'{"a": 1}', record_to_line(RECORD)[:-9]]
)
def test_a_torn_or_foreign_line_is_not_a_record(line: bytes) -> None:
    assert record_from_line(line) is None


def test_a_killed_task_has_its_last_reading_and_its_highest() -> None:
    running = replace(RECORD, status="running", end_s=None, peak_bytes=None, method=None)
    readings = [90.0, 100.6, 100.7, 100.8], [99999, 2000, 9000, 7000]
    record = killed(running, readings, Death.unknown("why"))
    assert (record.status, record.reason, record.method) == ("killed", "why", "sampled")
    assert (record.last_bytes, record.peak_bytes, record.end_s) == (7000, 9000, 100.8)


def test_a_killed_task_without_a_reading_keeps_what_it_began_with() -> None:
    running = replace(RECORD, status="running", end_s=None, peak_bytes=None, method=None)
    record = killed(running, ([90.0], [99999]), Death.unknown("why"))
    assert (record.last_bytes, record.peak_bytes, record.end_s) == (1000, 1000, None)
    unknown = killed(replace(running, base_bytes=None), ([], []), Death.unknown("why"))
    assert (unknown.last_bytes, unknown.peak_bytes, unknown.method) == (None, None, None)


def test_a_size_proved_by_the_cause_counts_for_the_peak_only() -> None:
    running = replace(RECORD, status="running", end_s=None, peak_bytes=None, method=None)
    record = killed(running, ([100.6], [2000]), OVER)
    assert (record.last_bytes, record.peak_bytes, record.method) == (2000, 9000, "sampled")
    assert killed(running, ([100.6], [20000]), OVER).last_bytes == 20000


_VALUES = [
    "1", "1.0", "0", "-0", "-1", "-1.5", "1e3", "1E400", "1e-400", "NaN", "Infinity", "-Infinity", "true", "null",
    "18446744073709551616", "9007199254740993", "9" * 400, "01", "1.", ".5", "+1", '"a"', '"-1: -2"', '"\\ud800"',
    '"\\u00e9"', '"\u00e9"', '"\x01"', '"\\q"', "[]", "[1,]", '{"a": -1}', "[" * 100_000, "tru", "",
]  # fmt: skip


def read_by_json(line: bytes) -> TaskRecord | None:
    """Read a line with one more field, whose name is not ASCII: such a line is not read by msgspec."""
    return record_from_line(line.replace(b"{", b'{"\xc3\xa9": 0, ', 1))


@pytest.mark.parametrize("field", ["start_s", "end_s", "peak_bytes", "task_id", "attempt", "reason", "shared", "later"])
@pytest.mark.parametrize("value", _VALUES, ids=range(len(_VALUES)))
def test_what_is_a_record_does_not_depend_on_the_way_it_is_read(field: str, value: str) -> None:
    text = record_to_line(RECORD).decode()
    for before in ("", f'"{field}": 1, ', f'"{field}": "a", '):  # also a field that is there twice
        line = text.replace("{", "{" + before, 1).replace("}\n", f', "{field}": {value}}}\n').encode()
        assert repr(record_from_line(line)) == repr(read_by_json(line))
        spaced = line.replace(b": -", b":\t-")
        assert repr(record_from_line(spaced)) == repr(read_by_json(spaced))


@pytest.mark.parametrize("line", [b"\xef\xbb\xbf%b", b"%b {}", b"[%b]", b"  %b  ", b"%b\x00", b"\xff%b"])
def test_both_decoders_agree_on_text_around_a_record(line: bytes) -> None:
    line = line % record_to_line(RECORD).strip()
    assert record_from_line(line) == read_by_json(line)


def test_of_texts_that_many_records_have_there_is_one() -> None:
    first, second = (record_from_line(record_to_line(replace(RECORD, node=node))) for node in ("no-1", "no-1"))
    assert first is not None
    assert second is not None
    assert first.node is second.node
    assert first.module is second.module


def test_a_time_is_a_float_also_where_it_is_written_without_a_point() -> None:
    record = record_from_line(record_to_line(replace(RECORD, start_s=100)))
    assert record is not None
    assert repr(record.start_s) == "100.0"


@pytest.mark.parametrize(
    ("extra", "is_read"),
    [
        ({"gpu_peak_bytes": 5, "load": -0.5, "name": "\u00e4", "is_on": True, "none": None}, True),
        ({}, True),
        ({"nested": {"a": 1}}, False),
        ({"list": [1]}, False),
        ([1], False),
    ],
)
def test_what_probes_have_measured_is_read_if_it_is_plain(extra: Any, is_read: bool) -> None:
    line = json.dumps({**asdict(RECORD), "extra": extra}).encode()
    for each in (line, line.replace(b'"peak_bytes"', b'"later_version": -1, "peak_bytes"')):
        record = record_from_line(each)
        assert (record is not None) == is_read
        assert record is None or record.extra == extra
