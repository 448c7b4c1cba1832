"""The column ``Peak`` has the highest size while each line ran, and leaves all other measurements as they are."""

import gc
import inspect
import mmap
import sys
import threading

import pytest

from runmem.errors import SettingError
from runmem.memory.allocator import trim_free_memory
from runmem.memory.line_peaks import PeakLineTable
from runmem.memory.peak import PeakMeter, process_meter
from runmem.memory.process import PsutilReadings, own_process
from runmem.memory.profile import profile, set_report_sink
from runmem.memory.profiled_call import measure_peaks_of_lines
from runmem.memory.source import source_block
from runmem.memory.tracers import line_tracer
from runmem.units import MIB

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS keeps no high-water mark to reset")


@pytest.fixture(autouse=True)
def _nothing_left_to_free():
    """Free what earlier tests of this process have left, so that it is not freed while a test measures."""
    gc.collect()
    trim_free_memory()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def reports(monkeypatch):
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    found = []
    set_report_sink(found.append)
    yield found
    set_report_sink(None)


def take(size_mib):
    """Take, touch and give back exactly `size_mib`."""
    with mmap.mmap(-1, size_mib * MIB) as block:
        for at in range(0, size_mib * MIB, mmap.PAGESIZE):
            block[at] = 1


def peaks_above_start(function, *args, meter=None, table_of=None):
    """Return the peak of each line of a call above the size at its start in MiB, the table, and the call's reading."""
    meter = meter or process_meter()
    window = meter.start()
    table = PeakLineTable(function.__code__, meter, window)
    line_tracer().begin(table)
    try:
        function(*args)
    finally:
        line_tracer().end(table)
    reading = meter.stop(window)
    found = table.profile(source_block(function.__code__))
    base = reading.base_bytes
    rows = {row.source.strip(): row for row in found.rows}
    return {text: row.peak_bytes and (row.peak_bytes - base) / MIB for text, row in rows.items()}, found, reading


def spikes():
    for size in (20, 60, 40):
        take(size)
    kept = mmap.mmap(-1, 30 * MIB)
    kept.write(b"1" * 30 * MIB)
    take(10)
    kept.close()
    take(10)
    del kept
    if size == 0:
        take(1)


@linux
def test_a_line_has_the_highest_size_of_all_its_executions_also_of_what_it_gave_back():
    peaks, found, reading = peaks_above_start(spikes)
    assert found.has_peaks
    assert peaks["take(size)"] == pytest.approx(60, abs=1)
    assert peaks["for size in (20, 60, 40):"] == pytest.approx(0, abs=1)
    assert peaks['kept.write(b"1" * 30 * MIB)'] == pytest.approx(60, abs=1)  # the bytes and the copy
    assert peaks["kept.close()"] == pytest.approx(30, abs=1)
    assert peaks["del kept"] == pytest.approx(0, abs=1)
    assert peaks["take(1)"] is None  # never ran
    assert reading.method == "hwm"
    assert (reading.peak_bytes - reading.base_bytes) / MIB == pytest.approx(60, abs=1)


def calls_inner():
    def inner(size):
        take(size)
        return size

    take(5)
    inner(50)
    sizes = sum(map(inner, (20, 70)))
    return sizes


@linux
def test_a_line_includes_what_it_calls_and_functions_inside_have_rows_of_their_own():
    peaks, _, _ = peaks_above_start(calls_inner)
    assert peaks["take(size)"] == pytest.approx(70, abs=1)
    assert peaks["return size"] == pytest.approx(0, abs=1)
    assert peaks["take(5)"] == pytest.approx(5, abs=1)
    assert peaks["inner(50)"] == pytest.approx(50, abs=1)
    assert peaks["sizes = sum(map(inner, (20, 70)))"] == pytest.approx(70, abs=1)
    assert peaks["return sizes"] == pytest.approx(0, abs=1)


@linux
def test_profiled_functions_inside_one_another_and_the_window_of_the_task_keep_their_exact_peaks(reports):
    @profile(peak=True, precision=0)
    def inner():
        take(80)
        take(20)

    @profile(peak=True, precision=0)
    def outer():
        take(40)
        inner()
        take(10)

    task = process_meter().start()
    outer()
    reading = process_meter().stop(task)
    assert (reading.peak_bytes - reading.base_bytes) / MIB == pytest.approx(80, abs=1.5)
    assert not reading.shared
    columns = {line.split("   ")[-1].strip(): line.split() for line in "".join(r.text for r in reports).splitlines()}
    base = reading.base_bytes / MIB
    # The columns are line, size, unit, increment, unit, peak, unit, occurrences, text.
    for text, expected in (("take(80)", 80), ("take(20)", 20), ("inner()", 80), ("take(40)", 40), ("take(10)", 10)):
        assert float(columns[text][5]) - base == pytest.approx(expected, abs=2), text
    assert columns["Line Contents"][-4:] == ["Peak", "Occurrences", "Line", "Contents"]


@linux
def test_memory_taken_while_a_generator_is_suspended_is_in_no_line_but_in_the_peak_of_its_call(reports):
    @profile(peak=True, precision=0)
    def numbers():
        take(30)
        yield 1
        take(20)
        yield 2

    for _ in numbers():
        take(100)
    text = reports[0].text
    base = float(text.partition("Initial memory: ")[2].split()[0])
    highest = {line.split()[-1]: float(line.split()[5]) - base for line in text.splitlines() if line.endswith(")")
               and "take" in line}  # fmt: skip
    assert highest == {"take(30)": pytest.approx(30, abs=2), "take(20)": pytest.approx(20, abs=2)}
    assert reports[0].peak_bytes / MIB - base == pytest.approx(100, abs=2)


def test_without_a_mark_that_can_be_reset_there_is_no_column_but_the_reason(reports):
    _, found, _ = peaks_above_start(spikes, meter=PeakMeter(PsutilReadings()))
    assert not found.has_peaks
    assert "no high-water mark" in found.peak_reason
    assert "Peak" not in found.render()
    assert found.rows[1].mem_bytes > 0  # the rest of the table is as without


class _StopsResetting:
    """Readings of this process whose mark can be reset a few times only, as when a program closes descriptors."""

    def __init__(self, times):
        self._left = times

    def __getattr__(self, name):
        return getattr(own_process(), name)

    def reset_high_water_mark(self):
        self._left -= 1
        if self._left < 0:
            raise OSError(30, "Read-only file system")
        own_process().reset_high_water_mark()


@linux
def test_if_the_reset_fails_in_the_middle_the_column_is_left_out_and_the_peak_of_the_call_stays():
    _, found, reading = peaks_above_start(spikes, meter=PeakMeter(_StopsResetting(3)))
    assert not found.has_peaks
    assert "Read-only file system" in found.peak_reason
    assert (reading.peak_bytes - reading.base_bytes) / MIB == pytest.approx(60, abs=1)


@linux
def test_peaks_are_marked_as_upper_bounds_if_another_task_ran_in_the_process(reports):
    @profile(peak=True)
    def alone():
        return 1

    @profile(peak=True)
    def beside_another():
        other = threading.Thread(target=lambda: process_meter().stop(process_meter().start()))
        other.start()
        other.join(60)

    alone()
    beside_another()
    assert ["upper bounds" in report.text for report in reports] == [False, True]


def test_the_default_of_the_run_holds_where_the_decorator_does_not_say(reports):
    plain, without, short = profile(spikes), profile(peak=False)(spikes), profile(full_report=False)(spikes)
    plain()
    measure_peaks_of_lines(True)
    try:
        plain()
        without()
        short()
    finally:
        measure_peaks_of_lines(False)
    assert ["  Peak  " in report.text for report in reports] == [
        False,
        process_meter().why_sampled is None,
        False,
        False,
    ]


def test_peaks_of_lines_without_a_table_are_refused():
    with pytest.raises(SettingError, match=r"full_report=False, peak=True.*full report"):
        profile(full_report=False, peak=True)
    assert inspect.signature(profile).parameters["peak"].default is None
