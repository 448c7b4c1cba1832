"""What a program sees of its tasks on two real worker processes."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runmem import FILE_IN, FILE_INOUT, FILE_OUT, INOUT, barrier, open_file, task, wait_on
from runmem.errors import ResultError
from runmem.units import MIB


def _define() -> SimpleNamespace:  # noqa: C901 - a list of tasks
    """Return tasks that are sent by value, as those of a program are."""

    @task(returns=1)
    def add(a, b=0):
        return a + b

    @task(returns=2)
    def divided(a, b):
        return divmod(a, b)

    @task(data=INOUT)
    def append(data, item):
        data.append(item)

    @task(returns=1)
    def length(data):
        return len(data)

    @task(returns=1)
    def fail(message, more=None):
        raise LookupError(message)

    @task(returns=1)
    def fail_at(number, bad):
        if number == bad:
            raise LookupError(f"number {number}")
        return number

    @task(returns=1)
    def where():
        return os.getpid()

    @task(returns=1)
    def block_sum(block, factor=1):
        return float(block.sum()) * factor

    @task(block=INOUT)
    def scale(block, factor):
        block *= factor

    @task(returns=1)
    def touch(mib):
        return int(np.ones(mib * MIB, dtype=np.uint8)[:: 1 << 20].sum())

    @task(path=FILE_OUT)
    def write(path, text):
        Path(path).write_text(text)

    @task(path=FILE_INOUT)
    def extend(path, text):
        with open(path, "a") as file:
            file.write(text)

    @task(path=FILE_IN, returns=1)
    def read(path):
        return Path(path).read_text()

    return SimpleNamespace(**locals())


tasks = _define()


@pytest.fixture(autouse=True)
def _running(run: Any) -> None:
    """All tests here are part of one program."""


def test_results_are_those_of_plain_calls() -> None:
    assert wait_on([tasks.add(i, b=i) for i in range(20)]) == [2 * i for i in range(20)]
    assert wait_on(tasks.divided(17, 5)) == [3, 2]


def test_tasks_run_in_other_processes() -> None:
    assert os.getpid() not in wait_on([tasks.where() for _ in range(4)])


def test_futures_are_arguments() -> None:
    quotient, rest = tasks.divided(17, 5)
    assert wait_on(tasks.add(tasks.add(quotient, rest), b=tasks.add(1))) == 6
    assert wait_on(tasks.length([quotient, {"x": rest}])) == 2


def test_an_object_passes_from_writer_to_writer() -> None:
    data: list[int] = []
    lengths = []
    for item in range(30):
        lengths.append(tasks.length(data))
        tasks.append(data, item)
    assert wait_on(data) == list(range(30))
    assert wait_on(lengths) == list(range(30))
    assert data == []


def test_a_tracked_list_inside_an_argument_is_the_current_one() -> None:
    data = [1]
    tasks.append(data, 2)
    assert wait_on(tasks.add([data], [{"x": data}])) == [[1, 2], {"x": [1, 2]}]


def test_a_large_array_is_an_argument_and_is_not_changed_by_its_writer() -> None:
    block = np.arange(1_000_000, dtype=np.float64)
    total = block.sum()
    before = [tasks.block_sum(block, factor) for factor in range(5)]
    tasks.scale(block, 2.0)
    after = tasks.block_sum(block)
    tasks.scale(block, 2.0)
    assert wait_on(before) == [total * factor for factor in range(5)]
    assert wait_on(after) == 2 * total
    assert wait_on(block).sum() == 4 * total
    assert block.sum() == total


def test_two_thousand_short_calls(run: Any) -> None:
    numbers = [tasks.add(i, 1) for i in range(2000)]
    assert sum(wait_on(numbers)) == sum(range(1, 2001))


def test_a_chain_of_five_hundred() -> None:
    future = tasks.add(0)
    for _ in range(500):
        future = tasks.add(future, 1)
    assert wait_on(future) == 500


def test_files_keep_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    tasks.write(path, "1")
    first = tasks.read(path)
    tasks.extend(path, "2")
    second = tasks.read(str(path))
    tasks.write(path, "3")
    with open_file(path) as file:
        assert file.read() == "3"
    assert wait_on(first, second) == ["1", "12"]


def test_an_error_is_itself_and_tells_where_it_happened() -> None:
    future = tasks.fail("not here", more=np.zeros(2))
    with pytest.raises(LookupError, match="not here") as raised:
        wait_on(future)
    assert str(raised.value) == "not here"
    notes = "\n".join(raised.value.__notes__)
    assert "raised in task _define.fail (call " in notes
    assert f"on node {socket.gethostname()}, process " in notes
    assert "arguments: message: str, more: ndarray" in notes
    assert "in fail\n" in notes
    assert "raise LookupError(message)" in notes


def test_what_needs_a_failed_task_fails_with_the_same_error() -> None:
    failed = tasks.fail("the first")
    later = tasks.add(tasks.add(failed, 1), 2)
    for future in (later, failed):
        with pytest.raises(LookupError, match="the first"):
            wait_on(future)


def test_a_failure_among_short_calls_costs_only_itself(run: Any) -> None:
    wait_on([tasks.fail_at(number, -1) for number in range(200)])  # their duration is known: now they are bundled
    futures = [tasks.fail_at(number, 77) for number in range(300)]
    with pytest.raises(LookupError, match="number 77"):
        wait_on(futures)
    assert wait_on([*futures[:77], *futures[78:]]) == [*range(77), *range(78, 300)]


def test_an_error_that_nobody_has_seen_is_raised_by_barrier_once() -> None:
    tasks.fail("nobody looks")
    with pytest.raises(LookupError, match="nobody looks"):
        barrier()
    barrier()


def test_calls_may_come_from_several_threads() -> None:
    results: dict[int, list[int]] = {}

    def part(number: int) -> None:
        results[number] = wait_on([tasks.add(number, i) for i in range(50)])

    threads = [threading.Thread(target=part, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number + i for i in range(50)] for number in range(4)}


def test_a_program_keeps_its_own_definitions_current() -> None:
    factor = 2

    @task(returns=1)
    def scaled(x):
        return x * factor

    first = scaled(10)
    factor = 3
    assert wait_on(first, scaled(10)) == [20, 30]


def test_every_call_that_ran_has_one_record(run: Any, records_of: Any) -> None:
    first = run.program.calls + 1
    failed = tasks.fail("its consumer does not run")
    unable = tasks.add(failed)
    wait_on([tasks.add(i) for i in range(500)])
    with pytest.raises(LookupError):
        wait_on(unable)
    barrier()
    records = [record for record in records_of(run, "") if record.task_id >= first]
    assert sorted(record.task_id for record in records) == [first, *range(first + 2, run.program.calls + 1)]
    assert all(record.status in ("finished", "failed") and record.end_s is not None for record in records)
    assert {record.node for record in records} == {socket.gethostname()}
    assert len({record.pid for record in records}) == 2
    assert [(r.status, r.exception) for r in records if r.task_id == first] == [("failed", "LookupError")]


def test_the_peak_of_a_task_is_what_it_touched(run: Any, records_of: Any) -> None:
    wait_on([tasks.touch(1) for _ in range(8)])  # both workers have imported numpy
    for mib in (10, 100):
        before = len(records_of(run, "touch"))
        wait_on(tasks.touch(mib))
        (record,) = records_of(run, "touch")[before:]
        assert record.method == "hwm"
        assert record.shared is False
        assert abs(record.increment_bytes - mib * MIB) < 0.5 * MIB, f"{record.increment_bytes / MIB} MiB"
        assert record.lifetime_peak_bytes >= record.peak_bytes > record.base_bytes


def test_a_result_that_cannot_be_pickled_is_told_with_what_to_do() -> None:
    @task(returns=1)
    def locked():
        return threading.Lock()

    with pytest.raises(ResultError, match=r"result of call .*locked .*cannot be sent .*cannot pickle '_thread.lock'"):
        wait_on(locked())
