"""Joining and leaving the processes that a sampler watches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runmem.node.members import join, leave, read_members, start_ticks
from runmem.store.layout import Spool


def test_a_process_that_joined_is_read_back(tmp_path: Path) -> None:
    join(tmp_path, os.getpid(), "node7.dat", "worker-7", "python\napp.py")
    (member,) = read_members(str(tmp_path))
    assert (member.pid, member.trace, member.series) == (os.getpid(), "node7.dat", "worker-7")
    assert (member.cmdline, member.descendants) == ("python app.py", True)
    assert member.start == start_ticks(os.getpid())


def test_the_file_lies_where_the_spool_has_its_members_and_is_private(tmp_path: Path) -> None:
    join(tmp_path, os.getpid(), "node7.dat")
    path = Spool(tmp_path).members / str(os.getpid())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().count(b"\n") == 1
    assert json.loads(path.read_bytes())["trace"] == "node7.dat"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_joining_again_replaces_and_leaving_removes(tmp_path: Path) -> None:
    join(tmp_path, 7, "a.dat", "one")
    join(tmp_path, 7, "b.dat", "two", descendants=False)
    (member,) = read_members(str(tmp_path))
    assert (member.trace, member.series, member.descendants) == ("b.dat", "two", False)
    leave(tmp_path, 7)
    leave(tmp_path, 7)
    assert read_members(str(tmp_path)) == []


def test_a_series_is_one_word(tmp_path: Path) -> None:
    join(tmp_path, 7, "a.dat", "tcp://127.0.0.1:4 %d")
    assert read_members(str(tmp_path))[0].series == "tcp___127.0.0.1_4__d"


@pytest.mark.parametrize("trace", ["", ".", "..", "../a.dat", "/etc/a.dat"])
def test_a_trace_outside_of_the_spool_is_refused(tmp_path: Path, trace: str) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        join(tmp_path, 7, trace)
    (tmp_path / "members").mkdir()
    (tmp_path / "members" / "7").write_text(json.dumps({"trace": trace + "/x", "series": "", "start": None}))
    assert read_members(str(tmp_path)) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"\0\xff", b'{"trace": 3, "series": ""}', b'{"trace": "a"}']
)
def test_an_invalid_member_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    join(tmp_path, 7, "a.dat")
    (tmp_path / "members" / "8").write_bytes(content)
    (tmp_path / "members" / "notes").write_bytes(b"{}")
    assert [member.pid for member in read_members(str(tmp_path))] == [7]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: a start time is not known")
def test_the_start_time_identifies_processes_and_is_none_after_their_end() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-E", "-c", "input()"], stdin=subprocess.PIPE)
    mine, its = start_ticks(os.getpid()), start_ticks(child.pid)
    child.communicate(b"\n")
    assert mine is not None
    assert its is not None
    assert mine < its
    assert start_ticks(child.pid) is None
