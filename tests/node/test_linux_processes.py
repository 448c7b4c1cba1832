"""The memory of processes and their descendants, from /proc."""

from __future__ import annotations

import math
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runmem.node.linux_processes import LinuxProcesses
from runmem.node.members import Member, start_ticks
from runmem.node.sampler import total_bytes
from runmem.units import MIB

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")

CHILD = f"import subprocess; child = subprocess.Popen([{sys.executable!r}, '-c', {{!r}}], stdout=subprocess.PIPE)"
HOLD = "x = b'x' * ({} << 20); print('ready', flush=True); import time; time.sleep(600)"


def has_child(process: object, mebibytes: int) -> None:
    process.do(CHILD.format(HOLD.format(mebibytes)))  # type: ignore[attr-defined]
    process.do("child.stdout.readline()")  # type: ignore[attr-defined]


def resident(pid: int, field: str = "Rss") -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match.group(1)) * 1024


def member(pid: int, *, descendants: bool = True) -> Member:
    return Member(pid, start_ticks(pid), "a.dat", f"worker-{pid}", descendants=descendants)


def watcher() -> LinuxProcesses:
    """Return one that looks for descendants at each call, however long that takes."""
    return LinuxProcesses(scan_share=math.inf)


def settled(processes: LinuxProcesses) -> None:
    """Look for descendants until all are found and counted, which takes two looks."""
    for _ in range(2):
        processes.refresh()


def of(processes: LinuxProcesses, pid: int) -> int:
    tree = processes.tree(pid)
    assert tree is not None
    return sum(tree)


def test_a_single_process_has_its_resident_set_size(start: Callable) -> None:
    worker = start()
    processes = watcher()
    processes.watch([member(worker.pid)])
    before = of(processes, worker.pid)
    worker.do("x = b'x' * (100 << 20)")
    after = of(processes, worker.pid)
    assert abs(after - resident(worker.pid)) < MIB
    assert 100 * MIB <= after - before < 101 * MIB


def test_a_child_started_by_any_thread_counts_with_the_process(start: Callable) -> None:
    worker = start()
    worker.do("import subprocess, threading")
    processes = watcher()
    processes.watch([member(worker.pid)])
    settled(processes)
    alone = of(processes, worker.pid)
    start_child = CHILD.format(HOLD.format(60)).replace("child =", "globals()['child'] =")
    worker.do(f"t = threading.Thread(target=exec, args=({start_child!r}, globals())); t.start(); t.join()")
    worker.do("child.stdout.readline()")
    settled(processes)
    assert 60 * MIB <= of(processes, worker.pid) - alone < 75 * MIB
    worker.do("child.kill(); child.wait()")
    assert abs(of(processes, worker.pid) - alone) < 2 * MIB


def test_a_grandchild_counts_also_after_its_parent_died(start: Callable) -> None:
    worker = start()
    inner = CHILD.format(HOLD.format(60)) + "; child.stdout.readline(); print('ready', flush=True); input()"
    worker.do(f"import subprocess; p = subprocess.PIPE; a = [{sys.executable!r}, '-c', {inner!r}]")
    worker.do("child = subprocess.Popen(a, stdin=p, stdout=p); child.stdout.readline()")
    processes = watcher()
    processes.watch([member(worker.pid)])
    settled(processes)
    assert of(processes, worker.pid) > 70 * MIB
    orphans = psutil.Process(worker.pid).children(recursive=True)[1:]
    worker.do("child.kill(); child.wait()")
    settled(processes)
    assert of(processes, worker.pid) > 65 * MIB
    worker.kill()
    assert processes.tree(worker.pid) is None
    for orphan in orphans:
        orphan.kill()


def test_a_child_that_is_watched_itself_does_not_count_with_its_parent(start: Callable) -> None:
    master = start()
    has_child(master, 60)
    processes = watcher()
    processes.watch([member(master.pid)])
    settled(processes)
    assert of(processes, master.pid) > 60 * MIB
    (child,) = (process.pid for process in psutil.Process(master.pid).children())
    processes.watch([member(master.pid), member(child)])
    assert of(processes, master.pid) < 30 * MIB
    assert of(processes, child) > 60 * MIB


def test_a_worker_that_left_is_not_its_parents_memory(start: Callable) -> None:
    master = start()
    has_child(master, 60)
    processes = watcher()
    processes.watch([member(master.pid)])
    settled(processes)
    (child,) = (process.pid for process in psutil.Process(master.pid).children())
    processes.watch([member(master.pid), member(child)])
    processes.watch([member(master.pid)])
    settled(processes)
    assert of(processes, master.pid) < 30 * MIB
    assert processes.tree(child) is None


def test_descendants_can_be_left_out(start: Callable) -> None:
    master = start()
    has_child(master, 60)
    processes = watcher()
    processes.watch([member(master.pid, descendants=False)])
    settled(processes)
    assert of(processes, master.pid) < 30 * MIB


def test_a_sampler_started_by_a_watched_process_does_not_count(start: Callable, tmp_path: Path) -> None:
    import runmem.node.sampler as sampler

    master = start()
    master.do("import subprocess")
    processes = watcher()
    processes.watch([member(master.pid)])
    settled(processes)
    alone = of(processes, master.pid)
    command = [sys.executable, "-S", "-E", sampler.__file__, str(tmp_path)]
    master.do(f"child = subprocess.Popen({command!r})")
    settled(processes)
    assert psutil.Process(master.pid).children()
    assert abs(of(processes, master.pid) - alone) < 4 * MIB  # its own imports; a sampler takes more
    master.do("child.kill(); child.wait()")


@pytest.mark.parametrize("reap", [False, True], ids=["zombie", "reaped"])
def test_a_process_that_was_killed_has_no_reading(start: Callable, eventually: Callable, reap: bool) -> None:
    worker = start()
    processes = watcher()
    processes.watch([member(worker.pid)])
    assert processes.tree(worker.pid) is not None
    worker.kill(reap=reap)
    eventually(lambda: processes.tree(worker.pid) is None)
    processes.watch([member(worker.pid)])
    assert processes.tree(worker.pid) is None


def test_a_later_process_with_the_number_of_a_member_is_not_the_member(start: Callable) -> None:
    worker = start()
    processes = watcher()
    processes.watch([Member(worker.pid, (start_ticks(worker.pid) or 0) - 1, "a.dat")])
    assert processes.tree(worker.pid) is None


def test_a_file_in_proc_is_read_only_while_processes_start(start: Callable) -> None:
    processes = watcher()
    processes.watch([member(start().pid)])
    settled(processes)
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        processes.refresh()
    assert len(os.listdir("/proc/self/fd")) == open_before
    processes.watch([])
    assert len(os.listdir("/proc/self/fd")) == open_before - 1


def test_the_total_of_processes_that_share_libraries_is_nearer_the_truth_than_the_sum(start: Callable) -> None:
    workers = [start() for _ in range(4)]
    for number, worker in enumerate(workers):
        worker.do("import numpy")
        worker.do(f"x = numpy.ones({number + 1} << 20)")
    processes = watcher()
    processes.watch([member(worker.pid) for worker in workers])
    trees = [tree for worker in workers if (tree := processes.tree(worker.pid)) is not None]
    true = sum(resident(worker.pid, "Pss") for worker in workers)
    summed = sum(map(sum, trees))
    error = total_bytes(trees) - true
    print(f"true {true / MIB:.1f} MiB, total {error / MIB:+.1f} MiB, sum of RSS {(summed - true) / MIB:+.1f} MiB")
    assert abs(error) < 0.1 * true
    assert abs(error) < abs(summed - true)


def test_descendants_are_found_where_the_kernels_last_process_number_is_not_told(
    start: Callable, eventually: Callable
) -> None:
    worker = start()
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))  # so that the file that tells it cannot be opened
    processes = watcher()
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    processes.watch([member(worker.pid)])
    processes.refresh()
    has_child(worker, 60)

    def has_grown() -> bool:
        processes.refresh()
        return of(processes, worker.pid) >= 60 * MIB

    eventually(has_grown)


def test_a_process_that_stood_still_and_then_changes_is_read_anew():
    code = "import sys\nfor line in sys.stdin:\n    block = bytearray(b'x') * int(line); print('done', flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    processes = watcher()
    processes.watch([Member(process.pid, None, "n.dat", descendants=False)])

    def private_after(size_bytes: int) -> int:
        process.stdin.write(f"{size_bytes}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        assert processes.tree(process.pid) == processes.tree(process.pid)
        return processes.tree(process.pid)[0]

    small, large, again = [private_after(size) for size in (1, 60 << 20, 1)]
    assert large - small > 59 << 20
    assert large - again > 59 << 20
    process.kill()
    process.communicate()
    assert processes.tree(process.pid) is None


def test_only_changes_are_returned_and_an_end_only_once(start: Callable, eventually: Callable) -> None:
    standing, growing, killed, parent = start(), start(), start(), start()
    has_child(parent, 30)
    processes = watcher()
    processes.watch([member(each.pid) for each in (standing, growing, killed, parent)])
    settled(processes)
    settled(processes)
    told = processes.changes()
    assert told.keys() == {standing.pid, growing.pid, killed.pid, parent.pid}
    assert told == {pid: processes.tree(pid) for pid in told}
    assert processes.changes() == {}
    growing.do("x = b'x' * (50 << 20)")
    assert processes.changes() == {growing.pid: processes.tree(growing.pid)}
    killed.kill()
    eventually(lambda: processes.changes().get(killed.pid, 0) is None)
    assert all(killed.pid not in processes.changes() for _ in range(3))
    alone = of(processes, parent.pid) - 25 * MIB
    parent.do("child.kill(); child.wait()")
    told = processes.changes()
    assert parent.pid in told
    assert sum(told[parent.pid] or ()) < alone


def children(processes: LinuxProcesses, pid: int) -> tuple[int, bytes] | None:
    settled(processes)
    processes.changes()
    return processes.children().get(pid)


def test_the_children_of_tasks_are_summed_and_named_by_the_largest_command(
    start: Callable, tmp_path: Path, eventually: Callable
) -> None:
    worker = start()
    processes = watcher()
    processes.watch([member(worker.pid)])
    assert children(processes, worker.pid) is None
    script = tmp_path / "hold it.py"
    script.write_text(HOLD.format(60))
    worker.do(f"import subprocess, sys; child = subprocess.Popen([sys.executable, {str(script)!r}], stdout=-1)")
    worker.do("child.stdout.readline(); other = subprocess.Popen(['sleep', '600'], stdout=-3)")
    size, command = children(processes, worker.pid) or (0, b"")
    assert 65 * MIB < size < 80 * MIB
    assert re.fullmatch(rb"python[\d.]*:hold_it\.py", command)
    worker.do("child.kill(); child.wait()")
    eventually(lambda: (children(processes, worker.pid) or (0, b""))[1] == b"sleep")  # not while it calls exec
    size, _ = children(processes, worker.pid) or (0, b"")
    assert 0 < size < 20 * MIB
    worker.do("other.kill(); other.wait()")
    assert children(processes, worker.pid) is None


def test_a_child_that_joins_is_no_child_of_a_task(start: Callable) -> None:
    worker = start()
    inner = CHILD.format(HOLD.format(5)) + "; child.stdout.readline(); print('ready', flush=True); input()"
    worker.do(f"import subprocess; p = subprocess.PIPE; a = [{sys.executable!r}, '-c', {inner!r}]")
    worker.do("child = subprocess.Popen(a, stdin=p, stdout=p); child.stdout.readline()")
    (child,) = psutil.Process(worker.pid).children()
    processes = watcher()
    processes.watch([member(worker.pid)])
    both = children(processes, worker.pid)
    processes.watch([member(worker.pid), member(child.pid)])
    (inside,) = child.children()
    found = children(processes, child.pid)
    assert both is not None
    assert found is not None
    assert abs(found[0] - resident(inside.pid)) < MIB < both[0] - found[0]
    assert children(processes, worker.pid) is None
    inside.kill()


def test_processes_that_runmem_and_multiprocessing_need_are_not_children_of_tasks(
    start: Callable, eventually: Callable
) -> None:
    worker = start()
    worker.do("from multiprocessing import resource_tracker; resource_tracker.ensure_running()")
    prepared = "import os, time; runs = os.fork() or os.fork(); time.sleep(600)  # {}"
    marked = prepared.format("runmem.worker.isolation.prepared_process")
    worker.do(f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {marked!r}], stdout=-3)")
    processes = watcher()
    processes.watch([member(worker.pid)])
    family = psutil.Process(worker.pid)
    # The tracker, the prepared process, one that runs a task, and the task's child.
    eventually(lambda: len(family.children(recursive=True)) == 4)
    found = children(processes, worker.pid)
    (own,) = (each for each in family.children(recursive=True) if psutil.Process(each.ppid()).ppid() not in
              (os.getpid(), worker.pid))  # fmt: skip
    assert found is not None
    assert found[1] == b"(forked)"
    assert abs(found[0] - resident(own.pid)) < MIB
    for each in family.children(recursive=True):
        each.kill()


def test_processes_forked_to_run_calls_are_not_children_of_tasks(start: Callable) -> None:
    pool = start()
    has_child(pool, 5)
    processes = watcher()
    processes.watch([Member(pool.pid, start_ticks(pool.pid), "a.dat", "w", forks_calls=True)])
    assert children(processes, pool.pid) is None
    assert [note.partition(":")[0] for note in processes.notes()] == ["rss-sum"]
    assert processes.notes() == []
    processes = watcher()
    processes.watch([member(pool.pid)])
    assert children(processes, pool.pid) is not None
    assert processes.notes() == []


def test_a_new_process_is_found_by_its_number_without_a_listing(start: Callable) -> None:
    worker = start()
    processes = LinuxProcesses(scan_share=1e-9, look_share=math.inf)  # one listing, and then none for a long time
    processes.watch([member(worker.pid)])
    settled(processes)
    worker.do("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    has_child(worker, 60)
    assert of(processes, worker.pid) < 30 * MIB
    settled(processes)
    listed = watcher()
    listed.watch([member(worker.pid)])
    settled(listed)
    assert of(listed, worker.pid) > 60 * MIB
    assert abs(of(processes, worker.pid) - of(listed, worker.pid)) < MIB  # the thread is not taken for a process
