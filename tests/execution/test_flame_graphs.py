"""Flame graphs are drawn by memray; what cannot be drawn is named with the command that draws it."""

import sys

import pytest

from runmem.errors import SettingError
from runmem.execution.checks import check_memray, check_recording
from runmem.execution.flame_graphs import make_flame_graphs
from runmem.settings import Settings
from runmem.units import MIB

memray = pytest.importorskip("memray", reason="memray (extra `memray`) is not installed")


def allocate_in_the_test():
    return len(bytearray(3 * MIB))


@pytest.fixture
def profiles(tmp_path):
    for number in (1, 2):
        path = tmp_path / f"memray-work-node-{number}.bin"
        with memray.Tracker(destination=memray.FileDestination(path), native_traces=True):
            allocate_in_the_test()
    (tmp_path / "memray-broken-node-1.bin").write_bytes(b"no capture")
    (tmp_path / "work.txt").write_text("a report")
    return tmp_path


def test_each_file_gets_its_page_and_a_broken_one_a_note(profiles):
    (profiles / "memray-work-node-2.bin").unlink()
    (note,) = make_flame_graphs(profiles)
    pages = [path.name for path in profiles.glob("*.html")]
    assert pages == ["memray-work-node-1.html"]
    assert "allocate_in_the_test" in (profiles / pages[0]).read_text()
    assert note.startswith("a flame graph was not drawn: ")
    assert note.endswith(f"Draw it yourself: python -m memray flamegraph {profiles}/memray-broken-node-1.bin")


def test_there_are_at_most_so_many_and_for_at_most_so_long(profiles):
    (profiles / "memray-broken-node-1.bin").unlink()
    (profiles / "memray-again-node-2.bin").write_bytes(b"")
    (note,) = make_flame_graphs(profiles, most=1)  # the first call of a task before the second of any
    assert [path.stem for path in profiles.glob("*.html")] == ["memray-work-node-1"]
    assert note.startswith("2 flame graphs were not drawn: a run draws 1.")
    assert "memray-again-node-2.bin" in note
    (note,) = make_flame_graphs(profiles, longest_s=0)
    assert note.startswith("3 flame graphs were not drawn: 0 s were not enough. Draw each yourself:")
    assert make_flame_graphs(profiles / "empty") == []


def test_settings_with_which_nothing_could_be_recorded_are_refused(profiles, monkeypatch):
    settings = Settings(memray=("work",))
    check_memray(settings)
    check_recording(settings, several_threads=False)
    check_recording(Settings(), several_threads=True)
    with pytest.raises(SettingError, match=r"--memray=work: a worker .* several threads.*--nthreads 1"):
        check_recording(settings, several_threads=True)
    monkeypatch.setitem(sys.modules, "memray", None)
    with pytest.raises(SettingError, match=r"--memray=work: memray is not .* pip install 'runmem\[memray\]'"):
        check_memray(settings)
    check_memray(Settings())
    assert "memray is not installed here" in make_flame_graphs(profiles)[0]
