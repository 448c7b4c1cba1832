"""Calls that ask for a process of their own, and calls that may begin only once."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runmem import TaskKilledError, TaskTimeoutError, task, wait_on
from runmem.deaths import Cause
from runmem.errors import TaskCancelledError
from runmem.execution.run import Run
from runmem.graph.current import current_program
from runmem.graph.isolation import Isolation
from runmem.units import MIB


class Star:
    """A class of the program, which travels by value."""

    def __init__(self, name: str) -> None:
        self.name = name


@task(returns=1)
def process_of_worker():
    return os.getpid()


@task(returns=2)
def look(star, data, mebibytes):
    block = bytearray(b"1") * (mebibytes * MIB)
    logging.getLogger("sky").error("saw %s", star.name)
    return (os.getpid(), os.getppid(), len(data)), [star, len(block)]


@task(returns=1)
def fail(how):
    if how == "raises":
        raise LookupError("no such star")
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "closes all":
        os.closerange(3, 1000)
    if how == "hangs":
        time.sleep(1000)
    return how


@task(returns=1)
def sleep_beside(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(1000)


@task(returns=1)
def end_worker(path):
    with open(path, "a") as file:
        file.write("begun\n")
    os.kill(os.getpid(), signal.SIGKILL)


look.isolation = Isolation(fresh_process=True)
fail.isolation = Isolation(fresh_process=True, limit_s=2.0)
sleep_beside.isolation = Isolation(fresh_process=True)
end_worker.isolation = Isolation(attempts=1)


@pytest.fixture
def records(run: Run) -> Callable[[str], list[dict]]:
    """Return a function that gives the records so far of a task, as they are written."""

    def records_of(name: str) -> list[dict]:
        run.collector.collect()
        lines = (run.directory.root / "tasks.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["name"].endswith(name)]

    return records_of


def test_a_call_has_a_fresh_process_and_the_record_its_peak(run, records, caplog):
    made = look(Star("Vega"), bytearray(2 * MIB), 1)[1]
    found = [look(wait_on(made)[0], bytearray(2 * MIB), size) for size in (60, 5)]
    for (pid, parent, length), (star, size) in wait_on(found):
        assert length == 2 * MIB
        assert type(star) is Star
        assert parent != os.getpid()
        assert size in (60 * MIB, 5 * MIB)
        record = next(record for record in records("look") if record["target_pid"] == pid)
        assert size - MIB / 2 < record["increment_bytes"] < size + 8 * MIB
        assert record["pid"] not in (pid, parent)
    assert "saw Vega" in caplog.text


@pytest.mark.parametrize(
    ("how", "error", "text", "cause"),
    [
        ("raises", LookupError, "no such star", None),
        ("is killed", TaskKilledError, "its process was killed by SIGKILL", Cause.SIGKILL),
        ("closes all", TaskKilledError, "its process ended by itself with exit code 1", Cause.EXIT),
        ("hangs", TaskTimeoutError, "exceeded its time limit of 2 s", Cause.TIME_LIMIT),
    ],
)
def test_what_ends_a_call_in_a_fresh_process_leaves_its_worker(run, records, how, error, text, cause):
    workers = set(wait_on([process_of_worker() for _ in range(20)]))
    with pytest.raises(error, match=text) as raised:
        wait_on(fail(how))
    if error is TaskKilledError:
        assert (raised.value.kind, raised.value.is_for_memory) == (cause, False)
    assert set(wait_on([process_of_worker() for _ in range(20)])) <= workers
    record = records("fail")[-1]
    assert record["status"] == ("failed" if how == "raises" else "killed")
    assert record["target_pid"] != record["pid"]
    death = record.get("death", {})
    assert death.get("cause") == cause
    if cause is not None:
        assert death["node_free_bytes"] > MIB
        assert death["beside"] == ""
        assert (death["growth_bytes_per_s"] is None) == ("its growth is not known" in (death["missing"] or ""))
        assert how != "hangs" or death["missing"] is None


def test_a_call_that_runs_in_a_fresh_process_ends_when_it_is_cancelled(run, tmp_path, eventually):
    running = [sleep_beside(str(tmp_path / name)) for name in ("a", "b")]
    eventually(lambda: len([path for path in tmp_path.iterdir() if path.read_text()]) == 2)
    waiting = sleep_beside(str(tmp_path / "c"))
    current_program().cancel([*running, waiting])
    for future in running:
        with pytest.raises(TaskKilledError, match="the program has given up this call"):
            wait_on(future)
    with pytest.raises(TaskCancelledError):
        wait_on(waiting)
    assert not (tmp_path / "c").exists()
    assert wait_on(process_of_worker()) > 0


def test_a_call_with_one_attempt_does_not_begin_again_when_its_worker_dies(run, tmp_path):
    path = tmp_path / "attempts"
    with pytest.raises(TaskKilledError, match="it may not begin again"):
        wait_on(end_worker(str(path)))
    assert path.read_text() == "begun\n"
