"""Every method on programs whose memory is known."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from runmem.errors import SettingError
from runmem.trials.control import PATTERNS
from runmem.trials.methods import METHODS, columns_of, methods_named
from runmem.trials.methods.contract import Method
from runmem.trials.methods.top import parse_res
from runmem.trials.outcome import CommandOutcome
from runmem.units import GIB, KIB, MIB


@pytest.mark.parametrize("pattern", PATTERNS)
def test_hwm_is_within_half_a_mib_of_the_largest_process_for_every_pattern(measure_control, pattern):
    truth, readings = measure_control(pattern, "hwm")
    assert abs(readings["hwm"].size_bytes - truth.process_bytes) <= 0.5 * MIB


def test_hwm_sees_every_child_however_short_its_life(measure_control):
    options = ["--children", "12", "--size_mib", "8", "--hold_s", "0"]
    truth, readings = measure_control("parallel", "hwm", options=options)
    assert readings["hwm sum"].size_bytes == pytest.approx(13 * truth.process_bytes, rel=0.1)


@pytest.mark.parametrize("pattern", ["one", "parallel", "turn", "freed"])
def test_the_tree_sampler_is_within_one_percent_or_one_mib_after_several_samples(measure_control, pattern):
    truth, readings = measure_control(pattern, "tree", options=["--hold_s", "1"])
    assert abs(readings["tree"].size_bytes - truth.tree_bytes) <= max(MIB, 0.01 * truth.tree_bytes)


def test_pages_shared_by_fork_count_once_in_the_tree_and_once_a_process_in_mprof(measure_control):
    if "Pss_Anon" not in Path("/proc/self/smaps_rollup").read_text():
        pytest.skip("this kernel does not tell shared anonymous pages apart (Linux 5.14 does)")
    truth, readings = measure_control("fork", "tree", "pss", "mprof", options=["--hold_s", "1"])
    assert abs(readings["tree"].size_bytes - truth.tree_bytes) <= max(MIB, 0.01 * truth.tree_bytes)
    assert abs(readings["pss"].size_bytes - truth.tree_bytes) < 0.2 * truth.tree_bytes
    assert readings["mprof"].size_bytes > 3 * truth.tree_bytes


def test_what_forked_children_write_themselves_is_not_taken_off_the_tree(measure):
    code = (
        "import os, time\n"
        "held = bytearray(64 << 20); held[::4096] = b'1' * len(held[::4096])\n"
        "child = os.fork()\n"
        "held[::4096] = b'2' * len(held[::4096])\n"  # now each has its own
        "time.sleep(1)\n"
        "if child: os.wait()\n"
    )
    _, readings = measure([sys.executable, "-S", "-c", code], "tree", "hwm")
    assert readings["tree"].size_bytes == pytest.approx(readings["hwm"].size_bytes + 64 * MIB, rel=0.1)


def test_a_control_group_counts_page_cache(measure_control):
    truth, readings = measure_control("cache", "cgroup", "hwm")
    assert readings["cgroup"].size_bytes > truth.cache_bytes
    assert readings["hwm"].size_bytes < 0.5 * truth.cache_bytes


def test_a_control_group_has_all_processes_and_is_removed(measure_control):
    truth, readings = measure_control("parallel", "cgroup")
    assert readings["cgroup"].size_bytes == pytest.approx(truth.tree_bytes, rel=0.1)


@pytest.mark.parametrize("name", ["time", "rusage"])
def test_the_largest_awaited_process_is_measured(measure_control, name):
    truth, readings = measure_control("parallel", name)
    assert readings[name].size_bytes == pytest.approx(truth.process_bytes, abs=MIB)
    assert readings[name].size_bytes < 0.5 * truth.tree_bytes


def test_time_reads_its_value_also_when_the_command_was_killed(measure):
    outcome, readings = measure(
        [sys.executable, "-c", "import os; x = bytearray(1 << 26); os.kill(os.getpid(), 9)"], "time"
    )
    assert outcome.exit_code == 137
    assert readings["time"].size_bytes > 64 * MIB


def test_rusage_reports_that_the_parents_peak_hides_a_small_command(measure):
    _, readings = measure(["true"], "rusage", "hwm")
    assert "inherited" in readings["rusage"].reason
    assert readings["hwm"].size_bytes < readings["rusage"].size_bytes


def test_top_shows_the_process_of_the_command(measure_control):
    truth, readings = measure_control("one", "top", options=["--hold_s", "1.2"])
    assert readings["top"].size_bytes == pytest.approx(truth.process_bytes, abs=MIB)


def test_mprof_adds_shared_pages_once_a_process(measure_control):
    truth, readings = measure_control("parallel", "mprof", options=["--hold_s", "0.6"])
    assert readings["mprof"].size_bytes > truth.tree_bytes + 4 * MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [("9332", 9332 * KIB), ("1.2g", int(1.2 * GIB)), ("100m", 100 * MIB), ("0.012t", int(0.012 * 1024 * GIB))],
)
def test_the_units_of_top_are_understood(text, size):
    assert parse_res(text) == size


@pytest.mark.parametrize("text", ["", "1.2x", "RES", "1,2g"])
def test_what_top_does_not_write_is_refused(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_res(text)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_that_watched_nothing_has_a_reason_and_no_value(method, site):
    made = method()
    for reading in made.collect(CommandOutcome(0)):
        assert reading.size_bytes is None
        assert reading.reason


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_states_what_it_measures_its_assumptions_and_limits(method):
    assert issubclass(method, Method)
    assert method.assumptions
    assert method.limitations
    for column in method.columns:
        assert column.scope in ("process", "tree")
        assert column.kind in ("peak", "sample", "average")
        assert column.meaning
        assert column.low or column.high


def test_columns_have_different_names():
    names = [column.name for column in columns_of(METHODS.values())]
    assert len(set(names)) == len(names)


def test_an_unknown_method_is_refused_with_the_valid_ones():
    with pytest.raises(SettingError, match="'massif' is not a measuring method; the methods are hwm, tree"):
        methods_named(["hwm", "massif"])


def test_a_program_that_is_missing_is_the_reason(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "not installed" in METHODS["time"]().available()
    assert "not installed" in METHODS["top"]().available()
