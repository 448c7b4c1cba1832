"""``@profile(backend="memray")`` records the allocations of a call, or says why not, and never fails the call."""

import asyncio
import os
import sys
import warnings
from pathlib import Path

import pytest

from runmem.errors import SettingError
from runmem.memory.memray_capture import CALLS_RECORDED, CaptureFiles, is_recording
from runmem.memory.profile import profile, record_call, set_report_sink
from runmem.units import MIB

memray = pytest.importorskip("memray", reason="memray (extra `memray`) is not installed")


@pytest.fixture
def files(tmp_path):
    return CaptureFiles(tmp_path, "node")


@pytest.fixture
def reports(monkeypatch, files):
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    found = []
    set_report_sink(found.append, files)
    yield found
    set_report_sink(None)


@profile(backend="memray")
def known(size_mib):
    kept = bytearray(size_mib * MIB)
    parts = [bytearray(MIB) for _ in range(7)]
    gone = len(bytearray(3 * MIB))
    return len(kept) + len(parts) + gone


def table_rows(report):
    """Return size in MiB, blocks and line of each place, by the text of its line."""
    lines = [line for line in report.text.splitlines() if "MiB " in line and ":" in line and "Peak" not in line]
    cells = [line.split(maxsplit=4) for line in lines if line.lstrip()[0].isdigit()]
    return {text.split("  ")[0]: (float(size), int(blocks), int(line)) for size, _, blocks, line, text in cells}


def test_the_largest_allocations_are_those_of_the_lines_when_the_call_had_the_most(reports, files):
    assert known(40) == 40 * MIB + 7 + 3 * MIB
    (report,) = reports
    first = known.__wrapped__.__code__.co_firstlineno
    rows = table_rows(report)
    assert rows["kept = bytearray(size_mib * MIB)"] == (40.0, 1, first + 2)
    assert rows["parts = [bytearray(MIB) for _ in range(7)]"] == (7.0, 7, first + 3)
    assert rows["gone = len(bytearray(3 * MIB))"] == (3.0, 1, first + 4)
    assert "At its highest, the call had 50.0 MiB allocated in" in report.text
    assert report.recorded_by == "memray"
    assert report.not_recorded is None
    assert report.capture == files.folder / "memray-known-node-1.bin"
    assert memray.FileReader(report.capture).metadata.has_native_traces
    assert "memray recorded allocations meanwhile, and its own memory is included" in report.text
    assert report.peak_bytes > 50 * MIB
    assert not is_recording()


def test_a_call_that_raises_is_recorded_and_raises_as_before(reports):
    @profile(backend="memray", full_report=False)
    def fails():
        kept = bytearray(5 * MIB)
        raise ValueError(len(kept))

    with pytest.raises(ValueError, match=str(5 * MIB)) as caught:
        fails()
    assert caught.value.__context__ is None
    (report,) = reports
    assert report.text.count("\n") == 1
    assert report.capture.stat().st_size > 0
    assert not is_recording()


def test_only_the_first_calls_are_recorded_and_every_one_has_a_report(reports, files):
    for _ in range(CALLS_RECORDED + 2):
        known(1)
    assert [report.recorded_by for report in reports] == ["memray"] * CALLS_RECORDED + [None] * 2
    assert f"not recorded, only the first {CALLS_RECORDED} calls on the node are recorded" in reports[-1].text
    assert reports[-1].not_recorded is None  # nothing is amiss
    assert len([*files.folder.iterdir()]) == CALLS_RECORDED


def reason_of(report):
    """Return the reason not to record a call; the call was measured all the same, and there is no file."""
    assert report.recorded_by is None
    assert report.capture is None
    assert report.peak_bytes > 0
    assert f"Allocations: not recorded, {report.not_recorded}\n" in report.text
    return report.not_recorded


def test_beside_another_recording_a_call_is_not_recorded(reports, files, tmp_path):
    with memray.Tracker(tmp_path / "theirs.bin"):
        known(1)
    assert "memray could not begin: No more than one Tracker" in reason_of(reports[0])
    assert not [*tmp_path.glob("memray-*")]

    @profile(backend="memray")
    def outer():
        return known(1)

    outer()
    inner, whole = reports[1:]
    assert "memray was recording another call" in reason_of(inner)
    assert whole.recorded_by == "memray"


def test_generators_and_coroutines_are_not_recorded(reports):
    @profile(backend="memray")
    def numbers():
        yield 1

    @profile(backend="memray")
    async def number():
        await asyncio.sleep(0)
        return 1

    assert [*numbers(), asyncio.run(number())] == [1, 1]
    assert all("generator or a coroutine" in reason_of(report) for report in reports)
    assert len(reports) == 2


def test_a_worker_with_several_threads_is_refused_and_one_with_a_single_thread_is_not(reports, tmp_path):
    distributed = pytest.importorskip("distributed")
    for threads in (2, 1):
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None, protocol="tcp://",
            local_directory=tmp_path / "dask", host="127.0.0.1",
        ) as cluster, distributed.Client(cluster) as client:  # fmt: skip
            assert client.submit(known, 1, pure=False).result(60) == 4 * MIB + 7
    assert "the worker has 2 threads" in reason_of(reports[0])
    assert reports[1].recorded_by == "memray"


def test_without_memray_the_function_runs_and_both_the_warning_and_the_report_say_what_to_install(reports, monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    with pytest.warns(UserWarning, match=r"memray is not installed here.*pip install 'runmem\[memray\]'") as warned:
        decorated = profile(backend="memray")(len)
    assert warned[0].filename == __file__
    assert decorated([1]) == 1
    assert "pip install 'runmem[memray]'" in reason_of(reports[0])


def test_a_call_is_not_disturbed_if_the_file_cannot_be_written_or_is_gone(reports, files):
    @profile(backend="memray")
    def removes_its_file():
        for path in files.folder.iterdir():
            path.unlink()
        return 7

    assert removes_its_file() == 7
    files.folder.rmdir()
    assert known(1) == 4 * MIB + 7
    gone, unwritten = reports
    assert "cannot be read" in gone.not_recorded
    assert gone.capture is None
    assert "memray could not begin" in reason_of(unwritten)
    assert not is_recording()


def test_two_kinds_of_backends_on_one_function_are_refused_in_either_order():
    def plain():
        return 1

    for first, second in (("memray", "psutil"), ("psutil", "memray")):
        with pytest.raises(SettingError, match="another @profile with another backend"):
            profile(backend=first)(profile(backend=second)(plain))
    with pytest.raises(SettingError, match="peak=True"):
        profile(backend="memray", peak=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile(backend="memray", full_report=False)(profile(backend="memray")(plain))


def test_the_report_of_another_profiled_function_says_that_memray_took_part(reports):
    @profile(full_report=True)
    def beside():
        return 1

    @profile(backend="memray")
    def outer():
        return beside()

    beside()
    outer()
    marked = ["memray recorded allocations meanwhile" in report.text for report in reports]
    assert marked == [False, True, True]


def test_a_call_named_on_the_command_line_is_recorded_as_one_of_its_task(reports):
    function = known.__wrapped__
    with record_call(function, "module.known") as call:
        assert call.call(lambda: function(2)) == 5 * MIB + 7
    (report,) = reports
    assert report.name == "module.known"
    assert table_rows(report)["kept = bytearray(size_mib * MIB)"][0] == 2.0


def test_outside_a_run_the_file_is_in_the_folder_of_the_process(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPSS_PROFILING_FILE", raising=False)
    known(1)
    name = f"memray-known-{os.getpid()}-1.bin"
    assert [path.name for path in Path.cwd().iterdir()] == [name]
    assert f"Flame graph: python -m memray flamegraph {name}\n" in capsys.readouterr().out
