"""One sampler a node and run, whoever starts it and however often."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from runmem.node.launch import ensure_sampler, sampler_pid
from runmem.node.members import join
from runmem.store.layout import Spool

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


def samplers_of(spool: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"sampler.py" in command and os.fsencode(spool) in command:
            found.append(int(path.parent.name))
    return found


def ensure_with_others(spool: Path, barrier: Barrier) -> bool:
    barrier.wait()
    return ensure_sampler(spool, 0.05)


def test_the_first_call_starts_the_sampler_and_the_next_ones_find_it(spool: Path) -> None:
    join(spool, os.getpid(), "a.dat")
    assert sampler_pid(spool) is None
    assert ensure_sampler(spool, 0.05)
    pid = sampler_pid(spool)
    assert pid is not None
    assert not ensure_sampler(spool, 0.05)
    assert sampler_pid(spool) == pid
    assert (spool / "sampler.lock").read_text() == f"{pid}\n"


@linux
def test_calls_at_the_same_time_in_many_processes_give_one_sampler(spool: Path) -> None:
    join(spool, os.getpid(), "a.dat")
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(8) as pool:
        barrier = manager.Barrier(8)
        started = pool.starmap(ensure_with_others, [(spool, barrier)] * 8, chunksize=1)
    assert sorted(started) == [False] * 7 + [True]
    assert samplers_of(spool) == [sampler_pid(spool)]


def test_a_sampler_that_was_killed_is_replaced(spool: Path, eventually: Callable) -> None:
    join(spool, os.getpid(), "a.dat", "", "app")
    ensure_sampler(spool, 0.02)
    first = sampler_pid(spool)
    assert first is not None
    eventually(lambda: (spool / "a.dat").exists())
    os.kill(first, signal.SIGKILL)
    size = (spool / "a.dat").stat().st_size
    eventually(lambda: ensure_sampler(spool, 0.02))  # the kernel frees the lock late in the exit of the killed one
    assert sampler_pid(spool) not in (None, first)
    eventually(lambda: (spool / "a.dat").stat().st_size > size)
    assert (spool / "a.dat").read_bytes().count(b"CMDLINE") == 1


@linux
def test_the_sampler_is_nobodys_child_and_has_its_own_session(spool: Path, eventually: Callable) -> None:
    join(spool, os.getpid(), "a.dat")
    ensure_sampler(spool, 0.02)
    pid = sampler_pid(spool)
    assert pid is not None
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    assert os.getsid(pid) != os.getsid(0)
    assert all(os.readlink(f"/proc/{pid}/fd/{number}") == os.devnull for number in range(3))
    Spool(spool).stop.touch()
    eventually(lambda: not Path(f"/proc/{pid}").exists())  # a zombie would stay


def test_no_sampler_is_started_once_the_run_has_stopped(spool: Path) -> None:
    (spool / "stop").touch()
    assert not ensure_sampler(spool, 0.05)
    assert sampler_pid(spool) is None


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_cannot_be_kept_is_refused(spool: Path, interval_s: float) -> None:
    with pytest.raises(ValueError, match="sampling interval"):
        ensure_sampler(spool, interval_s)


def test_a_spool_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ensure_sampler(tmp_path / "none", 0.05)


def test_a_reused_process_id_is_not_taken_for_a_sampler(spool: Path) -> None:
    (spool / "sampler.lock").write_text(f"{os.getpid()}\n")
    assert sampler_pid(spool) is None
