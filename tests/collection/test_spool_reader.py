from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runmem.collection.pace import WantedInterval
from runmem.collection.spool_reader import CHUNK_BYTES, SpoolQuestion, end_spool, read_last, read_spool, read_spool_on
from runmem.formats.mprof import read_trace
from runmem.node.launch import sampler_pid
from runmem.node.members import join, leave
from runmem.store.layout import Spool

RUN = "run-1"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool.of_run(RUN)
    spool.make()
    yield spool
    end_spool(RUN, remove=False)


def test_only_whole_lines_are_read(spool: Spool) -> None:
    path = spool.tasks(5)
    path.write_bytes(b"one\ntwo\nthr")
    news = read_spool(SpoolQuestion(RUN, {}, None))
    assert news.node == socket.gethostname()
    assert news.files == {"tasks-5.jsonl": (0, b"one\ntwo\n")}
    assert news.memory_bytes >= news.limit_bytes > 0
    assert read_spool(SpoolQuestion(RUN, {"tasks-5.jsonl": 8}, None)).files == {}
    with path.open("ab") as file:
        file.write(b"ee\n")
    assert read_spool(SpoolQuestion(RUN, {"tasks-5.jsonl": 8}, None)).files == {"tasks-5.jsonl": (8, b"three\n")}


def test_other_files_are_not_read(spool: Spool) -> None:
    (spool.root / "stop-it.txt").write_text("x\n")
    (spool.root / "n.dat").write_text("MEM 1 1\n")
    assert list(read_spool(SpoolQuestion(RUN, {}, None)).files) == ["n.dat"]


def test_much_is_read_in_portions(spool: Spool) -> None:
    lines = [b"%03d " % number + b"x" * 20_000 + b"\n" for number in range(50)]
    spool.tasks(5).write_bytes(b"".join(lines))
    read, turns = b"", 0
    while found := read_spool(SpoolQuestion(RUN, {"tasks-5.jsonl": len(read)}, None, most_bytes=1)).files:
        offset, data = found["tasks-5.jsonl"]
        assert offset == len(read)
        assert data.endswith(b"\n")
        read, turns = read + data, turns + 1
    assert read == b"".join(lines)
    assert turns > 10


def test_the_files_of_a_node_share_what_is_read_at_once(spool: Spool) -> None:
    """A node that was out of reach for long has much in many files, and the master has so many nodes."""
    line = b"x" * 9_999 + b"\n"
    for pid in range(8):
        spool.tasks(pid).write_bytes(line * 100)
    spool.tasks(8).write_bytes(line)
    offsets = {"tasks-8.jsonl": len(line)}  # nothing new: it has no part
    news = read_spool(SpoolQuestion(RUN, offsets, None, most_bytes=800_000))
    assert {file: len(data) for file, (_, data) in news.files.items()} == {
        f"tasks-{pid}.jsonl": 100_000 for pid in range(8)
    }
    assert news.more


def test_a_line_longer_than_a_portion_is_read_whole(spool: Spool) -> None:
    long = b"x" * 200_000
    spool.profiles(5).write_bytes(long)
    assert read_spool(SpoolQuestion(RUN, {}, None, most_bytes=1)).files == {}
    with spool.profiles(5).open("ab") as file:
        file.write(b"\nnext\n")
    assert read_spool(SpoolQuestion(RUN, {}, None, most_bytes=1)).files["profiles-5.jsonl"][1].startswith(long + b"\n")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a sampler on macOS reads once a second at most")
def test_the_sampler_takes_a_longer_interval_and_returns_to_its_own(
    spool: Spool, eventually: Callable[..., object]
) -> None:
    """The traces say when and why; an interval below that of the user is not taken."""
    join(spool.root, os.getpid(), "n.dat", "worker-1", "app")
    trace = spool.file("n.dat")

    def gaps_after(note: str) -> list[float]:
        """Return the times between the readings below a note, in ascending order."""
        text = trace.read_text().partition(f"NOTE {note}\n")[2]
        times = [float(line.split()[2]) for line in text.splitlines() if line.startswith("MEM ")]
        return sorted(later - earlier for earlier, later in zip(times, times[1:], strict=False))

    read_spool(SpoolQuestion(RUN, {}, 0.02))
    eventually(lambda: trace.is_file() and trace.read_text().count("MEM") > 5)
    long, short = WantedInterval(0.3, "lengthened\nto 0.3 s"), WantedInterval(0.001, "shortened")
    for wanted in (long, long):  # asked each time; noted once
        read_spool(SpoolQuestion(RUN, {}, 0.02, wanted=wanted))
    eventually(lambda: len(gaps_after("lengthened to 0.3 s")) > 4)
    assert gaps_after("lengthened to 0.3 s")[2] > 0.1
    read_spool(SpoolQuestion(RUN, {}, 0.02, wanted=short))
    eventually(lambda: len(gaps_after("shortened")) > 10)
    assert gaps_after("shortened")[5] > 0.005
    assert read_trace(trace).notes == ["lengthened to 0.3 s", "shortened"]
    assert read_trace(trace).skipped == 0
    end_spool(RUN, remove=False)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a process that ended is known by /proc")
def test_a_member_that_died_is_named_and_the_sampler_is_started_again(spool: Spool) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    join(spool.root, process.pid, "n.dat", "worker-1", "app")
    join(spool.root, os.getpid(), "n.dat", "worker-2", "app")
    assert read_spool(SpoolQuestion(RUN, {}, 0.05)).dead == []
    assert sampler_pid(spool.root) is not None
    process.kill()
    process.wait()
    assert read_spool(SpoolQuestion(RUN, {}, 0.05)).dead == [process.pid]
    end_spool(RUN, remove=False)
    assert sampler_pid(spool.root) is None


def test_a_run_without_a_spool_has_no_news(spool: Spool) -> None:
    assert read_spool(SpoolQuestion("another-run", {}, 0.1)).files == {}


def test_an_error_comes_back_as_text(spool: Spool) -> None:
    (spool.root / "folder.dat").mkdir()
    assert str(read_spool_on(SpoolQuestion(RUN, {}, None))).startswith("IsADirectoryError")


def test_the_end_removes_the_spool(spool: Spool) -> None:
    end_spool(RUN, remove=True)
    assert not spool.root.exists()


def test_the_last_process_that_leaves_gives_what_the_master_lacks(spool: Spool) -> None:
    spool.tasks(5).write_bytes(b"one\n")
    assert read_spool_on(SpoolQuestion(RUN, {}, None)).files == {"tasks-5.jsonl": (0, b"one\n")}
    assert read_last(RUN).files == {"tasks-5.jsonl": (0, b"one\n")}  # that answer may never have come
    read_spool_on(SpoolQuestion(RUN, {"tasks-5.jsonl": 4}, None))
    with spool.tasks(5).open("ab") as file:
        file.write(b"two\n")
    join(spool.root, os.getpid(), "n.dat", "worker-5", "app")
    assert read_last(RUN) is None  # this process can still be asked
    leave(spool.root, os.getpid())
    assert read_last(RUN).files == {"tasks-5.jsonl": (4, b"two\n")}
    spool.stop.touch()
    assert read_last(RUN) is None  # the run has ended


def test_what_the_last_process_gives_is_whole_even_if_it_is_more_than_a_portion(spool: Spool) -> None:
    line = b"x" * 999 + b"\n"
    for pid in range(8):
        spool.tasks(pid).write_bytes(line * 1000)
    news = read_last(RUN)
    assert news is not None
    assert sum(len(data) for _, data in news.files.values()) == 8_000_000 > CHUNK_BYTES
    assert not news.more


def test_a_request_that_was_long_on_its_way_finds_nothing_where_lines_were_freed(spool: Spool) -> None:
    line = b"x" * 99 + b"\n"
    spool.tasks(5).write_bytes(line * 1000)
    size = 100_000 // 4096 * 4096
    news = read_spool(SpoolQuestion(RUN, {"tasks-5.jsonl": 100_000}, None, {"tasks-5.jsonl": 100_000}))
    assert news.freed == {"tasks-5.jsonl": 100_000}
    if spool.tasks(5).read_bytes()[:size] != bytes(size):
        pytest.skip("nothing can be freed here")
    assert read_spool(SpoolQuestion(RUN, {"tasks-5.jsonl": 5000}, None)).files == {}
    assert read_spool(SpoolQuestion(RUN, {"tasks-5.jsonl": 99_900}, None)).files == {"tasks-5.jsonl": (99_900, line)}
