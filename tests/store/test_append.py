from __future__ import annotations

import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

from runmem.store.append import LineAppender, read_lines

_PAGE = 4096
_MUCH = 1 << 22
_LINES = [b"%05d " % number + b"x" * 300 + b"\n" for number in range(1000)]


def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"before\n")
    path.chmod(0o600)
    appender = LineAppender(path)
    assert appender.write(b"one\ntwo\n")
    assert appender.write(b"three\n")
    appender.close()
    assert path.read_bytes() == b"before\none\ntwo\nthree\n"
    assert appender.lost_lines == 0


def test_a_new_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    LineAppender(tmp_path / "a").close()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    appender = LineAppender(tmp_path / "a")

    def write(letter: bytes) -> None:
        for _ in range(200):
            appender.write(letter * 300 + b"\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "a").read_bytes().splitlines()
    assert len(lines) == 600
    assert {(len(line), len(set(line))) for line in lines} == {(300, 1)}


def test_a_full_disk_loses_lines_that_are_counted_and_tears_none(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (2 * _PAGE))
    appender = LineAppender(small_disk / "a")
    line = b"y" * 999 + b"\n"
    written = [appender.write(line) for _ in range(30)]
    assert True in written
    assert False in written
    lost = appender.lost_lines
    assert lost > 0
    filler.unlink()
    assert appender.write(b"there is room again\n")
    appender.close()
    lines = (small_disk / "a").read_bytes().splitlines(keepends=True)
    assert lines[-1] == b"there is room again\n"
    assert set(lines[:-1]) == {line}
    assert len(lines) - 1 + lost == 30
    assert appender.lost_lines == lost


def test_after_closing_lines_are_lost_and_counted(tmp_path: Path) -> None:
    appender = LineAppender(tmp_path / "a")
    appender.close()
    assert not appender.write(b"one\ntwo\n")
    assert appender.lost_lines == 2


def test_what_was_written_survives_sigkill_of_the_writer(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from runmem.store.append import LineAppender\n"
        "lines = LineAppender(Path(sys.argv[1]))\n"
        "for number in range(1000): lines.write(b'%05d ' % number + b'x' * 300 + b'\\n')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_lines(str(tmp_path / "a"), 0, _MUCH) == b"".join(_LINES)


def test_a_reader_beside_the_writer_sees_whole_lines_in_their_order(tmp_path: Path) -> None:
    lines = LineAppender(tmp_path / "a")

    def write() -> None:
        for line in _LINES * 5:
            lines.write(line)

    writer = threading.Thread(target=write)
    writer.start()
    read = b""
    while writer.is_alive() or len(read) < 5 * sum(map(len, _LINES)):
        read += read_lines(str(tmp_path / "a"), len(read), _MUCH)
    writer.join()
    assert read == b"".join(_LINES * 5)
    lines.close()


def test_portions_are_of_whole_lines_and_together_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"".join(_LINES) + b"y" * 50_000 + b"\n" + b"half a line")
    read = b""
    while portion := read_lines(str(tmp_path / "a"), len(read), 10_000):  # also less than the long line
        assert portion.endswith(b"\n")
        read += portion
    assert read == b"".join(_LINES) + b"y" * 50_000 + b"\n"
