"""Memory without shared pages, or with a part of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from runmem.formats.mprof import read_trace
from runmem.node.launch import ensure_sampler
from runmem.node.linux_processes import LinuxProcesses
from runmem.node.members import Member, join, start_ticks
from runmem.node.page_shares import PageShares
from runmem.units import MIB

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's smaps_rollup")

FORK = "x = b'x' * (60 << 20); import os, time; child = os.fork() or time.sleep(600)"


def forked(start: Callable) -> int:
    """Return a process of some 70 MiB that shares nearly all of it with a child."""
    worker = start()
    worker.do("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    worker.do(FORK)
    return worker.pid


def member(pid: int, metric: str = "rss") -> Member:
    return Member(pid, start_ticks(pid), "a.dat", "worker-7", metric=metric)


def sizes(processes: LinuxProcesses, pid: int) -> tuple[int, int | None]:
    """Return the memory of a process with its child, and of the child."""
    processes.watch([member(pid)])
    for _ in range(2):
        processes.refresh()
    changed = processes.changes()[pid]
    assert changed is not None
    assert changed == processes.tree(pid)
    return sum(changed), processes.children()[pid][0]


@pytest.fixture
def parent(start: Callable) -> int:
    return forked(start)


@pytest.fixture(autouse=True)
def _no_child_is_left(parent: int) -> Iterator[None]:
    children = psutil.Process(parent).children()
    yield
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def test_pages_that_forked_processes_share_count_twice_once_or_not_at_all(parent: int) -> None:
    rss, child_rss = sizes(LinuxProcesses(), parent)
    pss, child_pss = sizes(PageShares("pss"), parent)
    uss, child_uss = sizes(PageShares("uss"), parent)
    assert rss > 120 * MIB
    assert 60 * MIB < pss < 80 * MIB
    assert uss < 20 * MIB
    assert child_rss is not None
    assert child_rss > 60 * MIB
    assert 30 * MIB < (child_pss or 0) < 40 * MIB
    assert (child_uss or MIB) < 10 * MIB


def test_sizes_are_read_again_only_as_often_as_the_share_allows(parent: int) -> None:
    processes = PageShares("pss", share=1e-9)
    sizes(processes, parent)
    for child in psutil.Process(parent).children():
        child.kill()
        psutil.wait_procs([child], timeout=60)
    changed = processes.changes()
    (tree,) = changed.values()
    assert tree is not None
    assert sum(tree) < 40 * MIB  # the child is gone, and its half of the pages is not yet counted elsewhere
    assert processes.children() == {}
    os.kill(parent, 9)
    psutil.Process(parent).wait()
    assert processes.changes() == {parent: None}


def test_a_process_that_cannot_be_read_has_its_resident_set_size_and_a_note(parent: int, tmp_path: Path) -> None:
    (child,) = psutil.Process(parent).children()
    for pid in (parent, child.pid):
        (tmp_path / str(pid)).mkdir()
        for file in ("stat", "statm", "status", "cmdline"):
            (tmp_path / str(pid) / file).symlink_to(f"/proc/{pid}/{file}")
    (tmp_path / str(parent) / "smaps_rollup").symlink_to(f"/proc/{parent}/smaps_rollup")
    (tmp_path / str(child.pid) / "smaps_rollup").mkdir()
    processes = PageShares("pss", str(tmp_path))
    both, of_child = sizes(processes, parent)
    assert of_child is None
    assert both > 90 * MIB
    (note,) = processes.notes()
    assert f"pss of process {child.pid} cannot be read (Is a directory): its resident set size is used" in note
    processes.changes()
    assert processes.notes() == []


def test_the_sampler_reads_what_its_members_ask_for(parent: int, spool: Path, eventually: Callable) -> None:
    join(spool, parent, "node7.dat", "worker-7", "app.py", metric="pss")
    ensure_sampler(spool, 0.02)
    trace = spool / "node7.dat"
    eventually(lambda: trace.exists() and "worker-7" in read_trace(trace).children_of_tasks)
    read = read_trace(trace)
    assert read.metric == "pss"
    assert read.notes == ["pss: values are proportional set sizes, read as often as 5 % of a core allows"]
    assert all(each.size_bytes < 40 * MIB for each in read.children_of_tasks["worker-7"])
