from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runmem.store.mapped_lines import SUFFIX, MappedLines, read_lines

MUCH = 1 << 22
LINES = [b"%05d " % number + b"x" * 300 + b"\n" for number in range(1000)]  # five times what is mapped


def newest_of(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def test_a_line_can_be_read_at_once_though_the_file_has_none(tmp_path: Path) -> None:
    lines = MappedLines(tmp_path / "a")
    assert lines.write(b"one\n")
    assert (tmp_path / "a").read_bytes() == b""
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"one\n"
    assert lines.write(b"two\nthree\n")
    assert read_lines(str(tmp_path / "a"), 4, MUCH) == b"two\nthree\n"
    assert read_lines(str(tmp_path / "a"), 14, MUCH) == b""
    lines.close()


def test_many_lines_are_read_as_one_stream_from_any_offset(tmp_path: Path) -> None:
    lines = MappedLines(tmp_path / "a")
    read = b""
    for number, line in enumerate(LINES):
        lines.write(line)
        if number % 7 == 0:
            read += read_lines(str(tmp_path / "a"), len(read), MUCH)
    read += read_lines(str(tmp_path / "a"), len(read), MUCH)
    assert read == b"".join(LINES)
    assert 0 < (tmp_path / "a").stat().st_size < len(read)


def test_portions_smaller_than_the_file_leave_out_what_comes_after_them(tmp_path: Path) -> None:
    lines = MappedLines(tmp_path / "a")
    for line in LINES:
        lines.write(line)
    read = b""
    while portion := read_lines(str(tmp_path / "a"), len(read), 10_000):
        read += portion
    assert read == b"".join(LINES)


def test_closing_leaves_one_private_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before\n")
    (tmp_path / "a").chmod(0o600)
    lines = MappedLines(tmp_path / "a")
    lines.write(b"one\n")
    assert stat.S_IMODE(newest_of(tmp_path / "a").stat().st_mode) == 0o600
    lines.close()
    lines.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before\none\n"
    assert not lines.write(b"late\n")
    assert lines.lost_lines == 1


def test_a_line_longer_than_what_is_mapped_keeps_its_place(tmp_path: Path) -> None:
    lines = MappedLines(tmp_path / "a")
    for line in (b"one\n", b"y" * 200_000 + b"\n", b"two\n"):
        assert lines.write(line)
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"one\n" + b"y" * 200_000 + b"\ntwo\n"
    lines.close()


def test_what_was_written_survives_sigkill_of_the_writer(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from runmem.store.mapped_lines import MappedLines\n"
        "lines = MappedLines(Path(sys.argv[1]))\n"
        "for number in range(1000): lines.write(b'%05d ' % number + b'x' * 300 + b'\\n')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"".join(LINES)


def test_a_reader_beside_the_writer_sees_whole_lines_in_their_order(tmp_path: Path) -> None:
    lines = MappedLines(tmp_path / "a")
    ready = threading.Event()

    def write() -> None:
        ready.wait(30)
        for line in LINES * 5:
            lines.write(line)

    writer = threading.Thread(target=write)
    writer.start()
    ready.set()
    read = b""
    while writer.is_alive() or len(read) < 5 * sum(map(len, LINES)):
        read += read_lines(str(tmp_path / "a"), len(read), MUCH)
    writer.join()
    assert read == b"".join(LINES * 5)
    lines.close()


def test_without_room_for_the_map_lines_go_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    lines = MappedLines(tmp_path / "a")
    assert lines.write(b"one\n")
    assert (tmp_path / "a").read_bytes() == b"one\n"
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"one\n"
    lines.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_lines_that_cannot_be_moved_are_counted_and_later_ones_are_not_out_of_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    torn: list[int] = []

    def small(descriptor: int, data: bytes) -> int:
        if not torn:
            torn.append(real(descriptor, data[:1000]))  # a write cut short
            return torn[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    lines = MappedLines(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", small)
        written = [lines.write(line) for line in LINES[:300]]
    assert False in written
    assert lines.lost_lines > 0
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"".join(LINES[:3])
    assert lines.write(b"room again\n")
    read = read_lines(str(tmp_path / "a"), 0, MUCH)
    assert read.endswith(b"\nroom again\n")
    assert set(read.splitlines(keepends=True)) <= {*LINES, b"room again\n"}
    assert read.count(b"\n") + lines.lost_lines == 301
    lines.close()


def test_a_damaged_header_hides_the_mapped_lines_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n")
    newest_of(tmp_path / "a").write_bytes(b"\xff" * 100)
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"one\n"
    newest_of(tmp_path / "a").write_bytes(b"%031d\ntwo\n\0" % 900)  # of a file that was longer
    assert read_lines(str(tmp_path / "a"), 0, MUCH) == b"one\n"
