"""What measures a task, beside others and when it fails."""

from __future__ import annotations

import logging
import mmap
from typing import Any

import pytest

from runmem.units import MIB
from runmem.worker.probe import PeakProbe, Probe, Probes


class Counting(Probe):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> int:
        self.calls.append("start")
        return len(self.calls)

    def stop(self, started: int) -> dict[str, Any]:
        self.calls.append("stop")
        return {"begun_at_call": started}


class Failing(Probe):
    def start(self) -> bool:
        return True

    def stop(self, started: Any) -> dict[str, Any]:
        raise ValueError("no counter")


class NeverBegins(Probe):
    def start(self) -> None:
        raise OSError("no device")


def test_a_probe_that_knows_only_start_and_stop_goes_on_with_the_next_task() -> None:
    probe = Counting()
    fields, state = probe.next(probe.start())
    assert fields == {"begun_at_call": 1}
    assert probe.stop(state) == {"begun_at_call": 3}
    assert probe.calls == ["start", "stop", "start", "stop"]


@pytest.mark.parametrize("trim", [False, True])
def test_the_peaks_of_tasks_that_follow_each_other_join_without_a_gap(trim: bool) -> None:
    probe = PeakProbe(malloc_trim=trim)
    first, state = probe.next(probe.start())
    second = probe.stop(state)
    assert first.keys() == second.keys()
    assert first["peak_bytes"] >= first["end_bytes"]
    assert trim or first["end_bytes"] == second["base_bytes"]


def test_a_probe_that_fails_is_told_in_the_record_and_costs_the_others_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counting = Counting()
    probes = Probes(PeakProbe(), [counting, Failing(), NeverBegins()])
    with caplog.at_level(logging.WARNING):
        fields, states = probes.next(probes.start())
        assert fields["extra"] == {
            "begun_at_call": 1, "Failing": "Failing failed: no counter", "NeverBegins": "NeverBegins failed: no device",
        }  # fmt: skip
        assert probes.stop(states)["extra"]["begun_at_call"] == 3
    assert fields["peak_bytes"] > 0
    assert "Failing.stop failed" in caplog.text
    assert "NeverBegins.start failed" in caplog.text


@pytest.mark.parametrize("own", [Failing(), NeverBegins()])
def test_where_the_peak_cannot_be_had_the_record_says_why(own: Probe) -> None:
    probes = Probes(own)
    fields, states = probes.next(probes.start())
    assert fields["reason"] in ("Failing failed: no counter", "NeverBegins failed: no device")
    assert probes.stop(states) == {"reason": fields["reason"]}


def test_what_happens_while_a_window_is_interrupted_is_left_out() -> None:
    probe = PeakProbe()
    window = probe.start()
    mine = bytearray(20 * MIB)
    paused = probe.pause(window)
    with mmap.mmap(-1, 60 * MIB) as others:  # not from the heap, which may keep what is freed
        for _ in range(60):
            others.write(b"x" * MIB)
    between = probe.pause(probe.go_on(paused))
    went_on = probe.go_on(between)
    more = bytearray(10 * MIB)
    fields = probe.stop(went_on)
    assert 29 * MIB <= fields["increment_bytes"] <= 33 * MIB
    assert fields["peak_bytes"] - fields["base_bytes"] < 40 * MIB
    assert len(mine) + len(more) == 30 * MIB
