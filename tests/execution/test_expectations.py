"""What calls are expected to need of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.execution.expectations import NEGLIGIBLE_BYTES, Expectations, needs_in_run
from runmem.execution.placement import Demand
from runmem.store.records import record_to_line
from runmem.units import MIB

SHARE = 500 * MIB


def test_of_a_task_of_which_nothing_is_known_an_equal_share_is_expected() -> None:
    assert Expectations({}).demand("f", None, SHARE) == Demand(1, SHARE, is_guess=True)
    assert Expectations({}).demand("f", Demand(2, 0), SHARE) == Demand(2, SHARE, is_guess=True)
    assert Expectations({}).demand("f", Demand(1, 7 * MIB), SHARE) == Demand(1, 7 * MIB)


def test_the_most_that_a_call_has_needed_counts_and_a_tenth_more() -> None:
    expectations = Expectations({"f": 100 * MIB})
    assert expectations.demand("f", None, SHARE) == Demand(1, 110 * MIB)
    expectations.observe("f", 50 * MIB, 20 * MIB)
    assert expectations.demand("f", None, SHARE) == Demand(1, 110 * MIB)
    assert expectations.kept_bytes("f") == 20 * MIB
    expectations.observe("f", 200 * MIB, 0)
    assert expectations.demand("f", None, SHARE) == Demand(1, 220 * MIB)
    assert expectations.demand("f", Demand(1, 300 * MIB), SHARE) == Demand(1, 300 * MIB)
    assert expectations.demand("f", Demand(1, 90 * MIB), SHARE) == Demand(1, 220 * MIB)


def test_calls_that_need_almost_nothing_are_not_placed_unless_they_keep_much() -> None:
    expectations = Expectations({})
    expectations.observe("f", NEGLIGIBLE_BYTES // 2, 0)
    assert expectations.demand("f", None, SHARE) is None
    assert expectations.demand("f", Demand(2, 0), SHARE) is not None
    assert expectations.demand("f", Demand(1, 0, alone=True), SHARE) is not None
    expectations.observe("f", 0, 2 * NEGLIGIBLE_BYTES)
    assert expectations.demand("f", None, SHARE) is not None


def record(name: str, **values: int | None) -> TaskRecord:
    return TaskRecord(1, "app", name, "app.py", "node", 1, 1, 1.0, **values)


def test_what_calls_of_an_earlier_run_needed_is_read_from_its_records(tmp_path: Path) -> None:
    records = [
        record("f", increment_bytes=5 * MIB, base_bytes=MIB, peak_bytes=9 * MIB),
        record("f", increment_bytes=3 * MIB),
        record("g", base_bytes=MIB, peak_bytes=9 * MIB),
        record("h"),
    ]
    (tmp_path / "tasks.jsonl").write_bytes(b"".join(map(record_to_line, records)))
    assert needs_in_run(tmp_path) == {"f": 5 * MIB, "g": 8 * MIB}


def test_what_is_no_run_or_has_no_measurement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--memory_from: .*nowhere is not a run directory"):
        needs_in_run(tmp_path / "nowhere")
    (tmp_path / "tasks.jsonl").write_bytes(record_to_line(record("f")))
    with pytest.raises(SettingError, match=r"--memory_from: .* has no measurement of a task: name a run"):
        needs_in_run(tmp_path)
