"""The correction of LSST's timer, on a module of the same build and on ones that differ; real tasks: tests/lsst."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import mmap
import re
import sys

import pytest

from runmem.memory.lsst_timer import ORIGINAL_PEAKS, correct_lsst_timer
from runmem.memory.peak import process_meter

MIB = 1024**2
TIMER = """
import dataclasses, functools, resource

@dataclasses.dataclass(frozen=True)
class _UsageInfo:
    cpuTime: float
    maxResidentSetSize: int

def _get_current_rusage(for_children=False):
    return _UsageInfo(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

def logInfo(obj, prefix, logLevel=10, metadata=None, logger=None, stacklevel=None):
    if obj is not None and obj.get("refuses") == prefix:
        raise ValueError(prefix)
    metadata.append((prefix, _get_current_rusage().maxResidentSetSize, stacklevel))

def timeMethod(func):
    @functools.wraps(func)
    def timeMethod_wrapper(self, *args, **kwargs):
        logInfo(self, func.__name__ + "Start", metadata=self["metadata"], stacklevel=2)
        try:
            return func(self, *args, **kwargs)
        finally:
            logInfo(self, func.__name__ + "End", metadata=self["metadata"], stacklevel=2)
    return timeMethod_wrapper
"""


@pytest.fixture
def timer(tmp_path, monkeypatch):
    """Return a function that makes and imports a package `lsst.utils.timer` from a text."""
    folder = tmp_path / "lsst" / "utils"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    for name in [name for name in sys.modules if name == "lsst" or name.startswith("lsst.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)

    def imported(text=TIMER):
        (folder / "timer.py").write_text(text)
        return importlib.import_module("lsst.utils.timer")

    yield imported
    sys.meta_path[:] = before
    for name in [name for name in sys.modules if name == "lsst" or name.startswith("lsst.")]:
        del sys.modules[name]


def touch(mebibytes):
    with mmap.mmap(-1, mebibytes * MIB) as area:
        for place in range(0, len(area), 4096):
            area[place] = 1


def increments(metadata):
    sizes = {prefix: size for prefix, size, _ in metadata}
    methods = [prefix.removesuffix("End") for prefix in sizes if prefix.endswith("End")]
    return {method: (sizes[f"{method}End"] - sizes[f"{method}Start"]) / MIB for method in methods}


@pytest.fixture
def window():
    meter = process_meter()
    opened = meter.start()
    yield opened
    meter.stop(opened)


@pytest.mark.parametrize("first", ["the hook", "the import"])
def test_a_timed_method_has_its_own_peak_in_any_order(timer, window, first):
    if first == "the hook":
        correct_lsst_timer()
        module = timer()
    else:
        module = timer()
        correct_lsst_timer()

    @module.timeMethod
    def large(self):
        touch(100)

    @module.timeMethod
    def small(self):
        touch(10)

    task = {"metadata": []}
    large(task)
    small(task)
    assert increments(task["metadata"]) == pytest.approx({"large": 100, "small": 10}, abs=1)


def test_a_method_that_was_decorated_before_is_corrected_too(timer, window):
    module = timer()

    @module.timeMethod
    def small(self):
        touch(10)

    touch(100)
    correct_lsst_timer()
    task = {"metadata": []}
    small(task)
    assert increments(task["metadata"]) == pytest.approx({"small": 10}, abs=1)


def test_correcting_twice_is_correcting_once(timer, window):
    correct_lsst_timer()
    correct_lsst_timer()
    module = timer()
    log_info = module.logInfo
    correct_lsst_timer()
    assert module.logInfo is log_info


def test_outside_of_a_window_the_values_are_the_original(timer):
    correct_lsst_timer()
    module = timer()
    metadata = []
    module.logInfo(None, "start", metadata=metadata)
    assert metadata[0][1] == module._get_current_rusage.__wrapped__().maxResidentSetSize


def test_what_no_method_brackets_is_the_peak_of_the_outermost_window_so_far(timer, window):
    correct_lsst_timer()
    module = timer()
    metadata = []
    module.logInfo(None, "prep", metadata=metadata)
    touch(100)
    inner = process_meter().start()
    module.logInfo(None, "end", metadata=metadata)
    process_meter().stop(inner)
    assert (metadata[1][1] - window.base_bytes) / MIB == pytest.approx(100, abs=1)
    assert metadata[0][1] < metadata[1][1]


def test_a_start_that_raises_leaves_no_window_behind(timer, window):
    correct_lsst_timer()
    module = timer()

    @module.timeMethod
    def method(self):
        raise AssertionError("not called")

    with pytest.raises(ValueError, match="methodStart"):
        method({"metadata": [], "refuses": "methodStart"})
    assert not process_meter().stop(window).shared  # as it would be if one that began later were open


def test_a_wrapper_that_was_left_between_its_calls_leaves_no_window_behind(timer, window):
    correct_lsst_timer()
    module = timer()

    def timeMethod_wrapper(metadata):  # ends before its second call, as by an interrupt
        module.logInfo(None, "lostStart", metadata=metadata)

    @module.timeMethod
    def method(self):
        touch(10)

    timeMethod_wrapper([])
    task = {"metadata": []}
    method(task)
    assert increments(task["metadata"]) == pytest.approx({"method": 10}, abs=1)
    assert not process_meter().stop(window).shared  # as it would be if one that began later were open


def test_a_log_message_names_the_same_caller_as_without_us(timer, window):
    correct_lsst_timer()
    module = timer()
    metadata = []
    module.logInfo(None, "a", metadata=metadata)  # one more frame between the caller and the logger
    module.logInfo(None, "b", metadata=metadata, stacklevel=2)
    assert [level for _, _, level in metadata] == [2, 3]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("def _get_current_rusage", "def _usage", "_get_current_rusage is missing"),
        ("_get_current_rusage().maxResidentSetSize", "0", "logInfo does not call"),
        ("timeMethod_wrapper", "wrapper", "timeMethod has no timeMethod_wrapper"),
        ("ru_maxrss * 1024", "ru_maxrss * 1024.0", r"maxResidentSetSize is \d+\.0"),
        ("maxResidentSetSize: int", "maxRss: int", "maxResidentSetSize"),
    ],
)
def test_an_unexpected_module_is_not_changed_and_logged_once(timer, window, caplog, old, new, complaint):
    correct_lsst_timer()
    with caplog.at_level(logging.WARNING):
        module = timer(TIMER.replace(old, new))
    assert module.logInfo.__module__ == "lsst.utils.timer"
    assert not hasattr(module.logInfo, "__wrapped__")
    (record,) = caplog.records
    assert "are those of the whole process" in record.getMessage()
    assert re.search(complaint, record.getMessage())


def test_on_request_nothing_is_corrected(timer, window, monkeypatch):
    monkeypatch.setenv(ORIGINAL_PEAKS, "1")
    correct_lsst_timer()
    assert not hasattr(timer().logInfo, "__wrapped__")


def test_values_of_children_stay_the_original(timer, window):
    correct_lsst_timer()
    module = timer()
    assert module._get_current_rusage(True) == module._get_current_rusage.__wrapped__(True)
    assert dataclasses.is_dataclass(module._get_current_rusage())


def test_an_import_that_fails_is_the_original_failure(timer):
    correct_lsst_timer()
    with pytest.raises(SyntaxError):
        timer("def")
