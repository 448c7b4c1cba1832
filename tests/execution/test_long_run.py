"""A run that writes more than its nodes have room for: real processes, with very little room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runmem import task, wait_on
from runmem.formats.mprof import read_trace
from runmem.formats.totals import KEPT_BEGINNING, first_kept
from runmem.node.launch import sampler_pid
from runmem.store.layout import Spool
from runmem.store.run import read_run

ROOM = 64 * 1024
CALLS = 200


def sizes(run: Any) -> tuple[int, int, int]:
    """Return how many files a spool has, their length, and what they take on the disk (bytes)."""
    found = [path.stat() for path in Spool.of_run(run.run_id).root.iterdir() if path.suffix in (".dat", ".jsonl")]
    return len(found), sum(one.st_size for one in found), sum(one.st_blocks * 512 for one in found)


def is_freed(run: Any) -> bool:
    """Collect, and tell whether the spool takes no more than it may, blocks at the ends of its files included."""
    run.collector.collect()
    files, _, taken = sizes(run)
    return taken < 2 * ROOM + 2 * 4096 * files


def test_what_is_shipped_is_freed_and_the_run_is_whole(session: Callable[..., Any], tmp_path: Path) -> None:
    @task(returns=1)
    def tell(i):
        return i

    @task(returns=1)
    def wait_for(path):
        while not os.path.exists(path):
            time.sleep(0.01)
        return os.getpid()

    gate = tmp_path / "gate"
    rounds = 0
    with session(spool_size=ROOM, memory_interval=0.01) as run:
        long = wait_for(str(gate))
        while rounds < 3 or sizes(run)[1] < 8 * ROOM:
            wait_on([tell(i) for i in range(CALLS)])
            rounds += 1
            assert any(is_freed(run) for _ in range(20)), sizes(run)  # what one turn brings the next frees
        gate.touch()
        pid = wait_on(long)
    data = read_run(run.directory.root)
    assert sorted(record.task_id for record in data.records) == list(range(1, rounds * CALLS + 2))
    assert data.skipped == {}
    assert data.provenance["lost"] == []
    for path in run.directory.root.rglob("*"):
        if path.suffix in (".dat", ".jsonl"):
            assert b"\0" not in path.read_bytes()
    (trace,) = [read_trace(path) for path in data.traces if not path.name.startswith("mprofile_")]
    assert trace.skipped == 0
    assert trace.children[f"worker-{pid}"][0].size > 20
    brackets = {bracket.name.rpartition(".")[2]: bracket for bracket in trace.brackets}
    start = brackets["wait_for"].start_bytes  # written with four digits of a MiB
    assert min(trace.totals_bytes) - 1024 < start < max(trace.totals_bytes) + 1024


def is_whole(folder: Path) -> bool:
    """Tell whether every line below a folder is, and no hole was copied."""
    texts = [path.read_bytes() for path in folder.rglob("*") if path.suffix in (".dat", ".jsonl")]
    return all(b"\0" not in text and (not text or text.endswith(b"\n")) for text in texts)


def test_killed_workers_and_samplers_lose_nothing_while_room_is_freed(
    session: Callable[..., Any], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    @task(returns=1)
    def tell(i):
        return i

    @task(returns=1)
    def die_once(path):
        if not os.path.exists(path):
            open(path, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    with session(spool_size=ROOM, memory_interval=0.01) as run:
        root = Spool.of_run(run.run_id).root

        def write_and_free() -> int:
            """Make calls until files hold more holes than may be kept, and return how many calls that took."""
            before, made = holes(root), 0
            while holes(root) < before + ROOM:
                assert wait_on([tell(i) for i in range(CALLS)]) == list(range(CALLS))
                made += CALLS
                run.collector.collect()
            return made

        calls = write_and_free()
        for number in range(2):
            wait_on(die_once(str(tmp_path / f"died-{number}")))
            killed = sampler_pid(root)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: sampler_pid(root) not in (None, killed))  # the collector restarts it
            calls += write_and_free()
            assert is_whole(run.directory.root)
    data = read_run(run.directory.root)
    ended = [record for record in data.records if record.name.endswith("tell")]
    assert len({record.task_id for record in ended}) == calls
    assert len({(record.task_id, record.attempt) for record in ended}) == len(ended)  # Dask makes lost results again
    assert {record.status for record in ended} == {"finished"}
    died = sorted(record.status for record in data.records if record.name.endswith("die_once"))
    assert died == ["finished", "finished", "killed", "killed"]
    assert data.skipped == {}
    assert data.provenance["lost"] == []
    assert is_whole(run.directory.root)
    (trace,) = [read_trace(path) for path in data.traces if not path.name.startswith("mprofile_")]
    assert trace.skipped == 0


def holes(root: Path) -> int:
    """Return how many bytes of a spool's files of tasks are holes."""
    found = [path.stat() for path in root.glob("tasks-*.jsonl")]
    return sum(max(0, one.st_size - one.st_blocks * 512) for one in found)


PROGRAM = """
import os, signal, tempfile
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def tell(i):
    return i

def freed():
    files = [path.stat() for path in Path(tempfile.gettempdir()).glob("runmem-*/*/tasks-*.jsonl")]
    return sum(one.st_size - one.st_blocks * 512 for one in files) > 2 * 65536

for _ in range(200):
    wait_on([tell(i) for i in range(300)])
    if freed():
        break
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_of_a_killed_master_nothing_is_freed_that_it_did_not_have(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "RUNMEM_SPOOL_SIZE": "64KiB", "RUNMEM_WORKERS": "2"}
    command = [sys.executable, "-m", "runmem", "--python_memory_profile", "--memory_interval=0.01", "app.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run = read_run(tmp_path / "runmem_runs" / "app_01")
    (spool,) = [path for path in tmp_path.glob(f"runmem-{os.getuid()}/*") if path.is_dir()]
    freed = 0
    for path in (*spool.glob("*.dat"), *spool.glob("*.jsonl")):
        begin = KEPT_BEGINNING if path.suffix == ".dat" else 0
        with path.open("rb") as file:
            first = first_kept(file.fileno(), begin)
        copies = [copy.read_bytes() for copy in run.directory.root.rglob(path.name)]
        whole = copies[0] if copies else b""
        assert first <= max(len(whole), begin)
        assert whole[first:].startswith(path.read_bytes()[first : len(whole)])  # the rest is there too, as it was
        assert b"\0" not in whole
        assert not whole or whole.endswith(b"\n")
        freed += first - begin
    assert freed > ROOM
