"""The sampler as a process of its own, watching real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import runmem.node.sampler as sampler_module
from runmem.formats.memory_events import MemoryEvent
from runmem.formats.mprof import Trace, read_trace
from runmem.formats.mprof_lines import func_line
from runmem.node.launch import ensure_sampler, sampler_pid
from runmem.node.members import join, leave
from runmem.node.sampled_peaks import PeakReader, SampledPeak, file_of
from runmem.node.sampler import total_bytes
from runmem.units import MIB

NAME = "mprofile_20261120123456.dat"
SCRIPT = sampler_module.__file__


def trace_of(spool: Path, name: str = "node7.dat") -> Trace:
    try:
        return read_trace(spool / name)
    except FileNotFoundError:  # nothing was sampled yet
        empty = spool.with_name("empty.dat")
        empty.touch()
        return read_trace(empty)


def sizes(spool: Path, series: str, name: str = "node7.dat") -> list[int]:
    _, found = trace_of(spool, name).children.get(series, ((), ()))
    return [int(size) for size in found]


def test_the_children_of_a_task_are_in_the_trace_and_reported_to_its_process(
    spool: Path, start: Callable, eventually: Callable
) -> None:
    worker, master = start(), start()
    reader = PeakReader(file_of(spool, worker.pid))
    join(spool, worker.pid, "node7.dat", "worker-7", "app.py")
    join(spool, master.pid, NAME)
    for process in (worker, master):
        process.do("import subprocess; child = subprocess.Popen(['sleep', '600'], stdout=-3)")
    ensure_sampler(spool, 0.02)
    found: list[SampledPeak] = []

    def is_reported() -> bool:
        found.extend(filter(None, [reader.cut()]))
        return len(found) > 1  # in two windows

    eventually(is_reported)
    assert found[-1].command == b"sleep"
    assert all(0 < (peak.children_bytes or 0) < 20 * MIB for peak in found)
    (readings,) = trace_of(spool).children_of_tasks.values()
    assert readings[-1].command == "sleep"
    reported = found[0].children_bytes or 0
    assert any(abs(each.size_bytes - reported) <= 1 for each in readings)  # six decimals of a MiB
    times, _ = trace_of(spool).children["worker-7"]
    assert {each.time_s for each in readings} <= set(times)
    assert trace_of(spool, NAME).children_of_tasks == {}
    for process in (worker, master):
        process.do("child.kill(); child.wait()")


def test_memory_that_a_worker_allocates_is_in_its_series_and_in_the_total(
    spool: Path, start: Callable, eventually: Callable
) -> None:
    worker, other = start(), start()
    for process in (worker, other):
        join(spool, process.pid, "node7.dat", f"worker-{process.pid}", "app.py 3")
    ensure_sampler(spool, 0.02)
    series = f"worker-{worker.pid}"
    eventually(lambda: len(sizes(spool, series)) > 2)
    before = sizes(spool, series)[-1]
    worker.do("x = b'x' * (200 << 20)")
    eventually(lambda: sizes(spool, series)[-1] > before + 199 * MIB)
    trace = trace_of(spool)
    assert abs(max(sizes(spool, series)) - before - 200 * MIB) < MIB
    assert max(sizes(spool, f"worker-{other.pid}")) < 30 * MIB
    assert trace.peak_bytes is not None
    assert trace.peak_bytes >= max(sizes(spool, series))
    assert trace.cmdline == "app.py 3"
    assert (spool / "node7.dat").read_bytes().startswith(b"CMDLINE app.py 3\nMEM ")
    assert (spool / "node7.dat").stat().st_mode & 0o777 == 0o600


def test_a_child_of_a_worker_counts_with_it(spool: Path, start: Callable, eventually: Callable) -> None:
    worker = start()
    join(spool, worker.pid, "node7.dat", "worker")
    ensure_sampler(spool, 0.02)
    eventually(lambda: sizes(spool, "worker"))
    code = "x = b'x' * (90 << 20); input()"
    worker.do(f"import subprocess; child = subprocess.Popen([{sys.executable!r}, '-c', {code!r}], stdin=-1)")
    eventually(lambda: sizes(spool, "worker")[-1] > 90 * MIB)
    worker.do("child.kill(); child.wait()")
    eventually(lambda: sizes(spool, "worker")[-1] < 30 * MIB)


def test_the_series_of_a_killed_worker_ends_and_the_others_go_on(
    spool: Path, start: Callable, eventually: Callable
) -> None:
    killed, living = start(), start()
    join(spool, killed.pid, "node7.dat", "killed")
    join(spool, living.pid, "node7.dat", "living")
    ensure_sampler(spool, 0.02)
    eventually(lambda: sizes(spool, "killed"))
    killed.kill(reap=False)
    read = len(sizes(spool, "killed"))
    goes_on = len(sizes(spool, "living")) + 10
    eventually(lambda: len(sizes(spool, "living")) > goes_on)
    assert len(sizes(spool, "killed")) <= read + 1  # the tick that was under way
    assert min(sizes(spool, "killed")) > MIB


def test_three_traces_are_fed_and_the_workers_of_a_master_are_not_its_memory(
    spool: Path, start: Callable, eventually: Callable
) -> None:
    master = start()
    master.do("import subprocess, sys; children = []")
    big, small = "x = b'x' * (100 << 20); input()", "input()"
    workers = [
        int(master.do(f"children.append(subprocess.Popen([sys.executable, '-c', {code!r}], stdin=-1)); "
                      "said = children[-1].pid"))
        for code in (big, small)
    ]  # fmt: skip
    join(spool, master.pid, NAME, "", "app.py")
    for worker, name in zip(workers, ("node7.dat", "node8.dat"), strict=True):
        join(spool, worker, name, "worker")
    ensure_sampler(spool, 0.02)
    eventually(lambda: (trace_of(spool, "node7.dat").peak_bytes or 0) > 100 * MIB)
    for name in (NAME, "node7.dat", "node8.dat"):
        eventually(lambda name=name: len(trace_of(spool, name).times_s) > 5)
    assert trace_of(spool, NAME).children == {}
    assert (trace_of(spool, "node8.dat").peak_bytes or 0) < 40 * MIB
    # With its workers the master would be above 100 MiB.
    assert (trace_of(spool, NAME).peak_bytes or 0) < 40 * MIB
    assert sorted(path.name for path in spool.glob("*.dat")) == sorted([NAME, "node7.dat", "node8.dat"])


def test_a_process_joins_and_leaves_while_the_sampler_runs(spool: Path, start: Callable, eventually: Callable) -> None:
    first, second = start(), start()
    join(spool, first.pid, "node7.dat", "first")
    ensure_sampler(spool, 0.02)
    eventually(lambda: sizes(spool, "first"))
    join(spool, second.pid, "node7.dat", "second")
    eventually(lambda: sizes(spool, "second"))
    leave(spool, first.pid)
    eventually(lambda: len(sizes(spool, "second")) > len(sizes(spool, "first")) + 10)


def test_stop_ends_the_sampler_after_a_last_sample(spool: Path, start: Callable, eventually: Callable) -> None:
    worker = start()
    join(spool, worker.pid, "node7.dat", "worker")
    ensure_sampler(spool, 3600)  # it takes one sample now, and one at its end
    eventually(lambda: len(sizes(spool, "worker")) == 1)
    worker.do("x = b'x' * (100 << 20)")
    (spool / "stop").touch()
    eventually(lambda: sampler_pid(spool) is None)
    first, last = sizes(spool, "worker")
    assert last - first > 99 * MIB


def test_the_terminals_signals_do_not_end_it_and_sigterm_does(spool: Path, eventually: Callable) -> None:
    join(spool, os.getpid(), "node7.dat")
    ensure_sampler(spool, 0.02)
    pid = sampler_pid(spool)
    assert pid is not None
    eventually(lambda: len(trace_of(spool).times_s))
    for terminal in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid, terminal)
        read = len(trace_of(spool).times_s)
        eventually(lambda read=read: len(trace_of(spool).times_s) > read + 2)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: sampler_pid(spool) is None)
    assert trace_of(spool).skipped == 0


def test_it_ends_when_the_spool_is_removed(spool: Path, eventually: Callable) -> None:
    join(spool, os.getpid(), "node7.dat")
    ensure_sampler(spool, 0.02)
    pid = sampler_pid(spool)
    eventually((spool / "node7.dat").exists)  # else it may be made while the folder is being emptied
    shutil.rmtree(spool)
    eventually(lambda: not _lives(pid))


@pytest.mark.slow
def test_it_ends_when_no_member_has_lived_for_some_seconds(spool: Path, start: Callable, eventually: Callable) -> None:
    worker = start()
    join(spool, worker.pid, "node7.dat", "worker")
    ensure_sampler(spool, 0.02)
    eventually(lambda: sizes(spool, "worker"))
    worker.kill()
    eventually(lambda: sampler_pid(spool) is None)
    assert not (spool / "sampler.err").exists()


def _lives(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_missed_ticks_are_skipped_and_not_made_up_for(spool: Path, eventually: Callable) -> None:
    join(spool, os.getpid(), "node7.dat")
    ensure_sampler(spool, 0.05)
    pid = sampler_pid(spool)
    assert pid is not None
    eventually(lambda: len(trace_of(spool).times_s))
    os.kill(pid, signal.SIGSTOP)
    resumed = time.time() + 1.5  # thirty ticks
    eventually(lambda: time.time() > resumed)
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: trace_of(spool).times_s[-1] > resumed + 0.5)
    times = trace_of(spool).times_s
    assert ((times > resumed) & (times < resumed + 0.5)).sum() <= 11


def test_a_full_disk_neither_ends_it_nor_tears_a_line(small_disk: Path, eventually: Callable) -> None:
    join(small_disk, os.getpid(), "node7.dat", "worker")
    ensure_sampler(small_disk, 0.005)
    eventually(lambda: len(trace_of(small_disk).times_s))
    ballast = small_disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
    except OSError:
        pass
    eventually(lambda: not (small_disk / "node7.dat").read_bytes().endswith(b"\n"))
    full_since = time.time()
    eventually(lambda: time.time() > full_since + 0.1)  # some ticks, which have no room
    ballast.unlink()
    eventually(lambda: trace_of(small_disk).lost_lines > 0)
    assert sampler_pid(small_disk) is not None
    (small_disk / "stop").touch()
    eventually(lambda: sampler_pid(small_disk) is None)
    assert trace_of(small_disk).skipped == 0


def test_it_loads_neither_the_package_nor_anything_but_the_standard_library(spool: Path) -> None:
    (spool / "stop").touch()
    command = [sys.executable, "-S", "-E", "-X", "importtime", SCRIPT, str(spool)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.splitlines()[1:]}
    own = {"clock", "interval", "members", "sampled_peaks", "trace_file", "trace_lines", "linux_processes"}
    own |= {"ps_processes", "page_shares", "descendants", "task_children", "proc_files"}
    assert "members" in loaded
    assert loaded - own <= sys.stdlib_module_names | {"imported package"}
    assert (
        not loaded & {"argparse", "dataclasses", "logging", "pathlib", "subprocess", "typing"} or "pro" in sys.platform
    )


@pytest.mark.parametrize(
    "arguments", [[], ["{spool}", "--interval", "0"], ["{spool}", "--interval", "often"], ["{spool}", "--speed", "1"]]
)
def test_unusable_arguments_are_reported_and_end_with_code_2(spool: Path, arguments: list[str]) -> None:
    command = [sys.executable, SCRIPT, *(text.format(spool=spool) for text in arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "usage: sampler.py SPOOL" in ended.stderr


def test_what_is_shared_counts_once_in_a_total() -> None:
    assert total_bytes([(10, 3), (20, 5), (30, 4)]) == 65
    assert total_bytes([]) == 0


def test_mprof_plots_peaks_and_lists_what_was_sampled(spool: Path, start: Callable, eventually: Callable) -> None:
    workers = [start(), start()]
    for worker in workers:
        join(spool, worker.pid, NAME, f"worker-{worker.pid}", "app.py")
    ensure_sampler(spool, 0.02)
    began = time.time()
    eventually(lambda: len(trace_of(spool, NAME).times_s) > 10)
    workers[0].do("x = b'x' * (80 << 20)")
    eventually(lambda: len(trace_of(spool, NAME).times_s) > 25)
    with (spool / NAME).open("ab", buffering=0) as file:
        file.write(func_line("app.fill the lot", 10 * MIB, began, 90 * MIB, time.time()))
        file.write(b"LOST 3 1795180123.0\nNOTE made by a test\n")
        file.write(MemoryEvent("spilled", workers[0].pid, time.time(), 90 * MIB, 30 * MIB, 2).line())
    (spool / "stop").touch()
    eventually(lambda: sampler_pid(spool) is None)
    trace = trace_of(spool, NAME)
    assert NAME in mprof(spool, "list")
    assert trace.peak_bytes is not None
    assert f"{trace.peak_bytes / MIB:.3f} MiB" in mprof(spool, "peak", NAME)
    mprof(spool, "plot", "-o", "picture.png", NAME)
    assert (spool / "picture.png").read_bytes().startswith(b"\x89PNG")


def mprof(folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "mprof", *arguments],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout
