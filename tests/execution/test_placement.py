"""Calls with constraints: how many run at once, and which can run nowhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runmem import task, wait_on
from runmem.errors import ArgumentError
from runmem.execution.placement import Demand, Placement, WorkerInfo
from runmem.execution.session import session
from runmem.graph.call import Execution
from runmem.pycompss.api.constraint import constraint
from runmem.pycompss.api.implement import implement

MIB, GIB = 1024**2, 1024**3


def node(host: str, count: int, limit_bytes: int = GIB) -> list[WorkerInfo]:
    return [WorkerInfo(f"tcp://{host}:{number}", host, 1, limit_bytes) for number in range(count)]


def execution(number: int) -> Execution:
    return Execution(number, "f", 1)


def placement(*workers: WorkerInfo) -> Placement:
    made = Placement(lambda: workers)
    made.refresh()
    return made


def test_a_node_has_room_for_its_threads_and_memory() -> None:
    place = placement(*node("a", 4))
    calls = [execution(number) for number in range(3)]
    assert [place.admit(call, Demand(2, 0)) for call in calls] == [True, True, False]
    place.release(calls[0])
    assert place.admit(calls[2], Demand(2, 0))
    for call in calls:
        place.release(call)
    assert [place.admit(call, Demand(1, 3 * GIB // 2 // 2)) for call in calls] == [True, True, True]
    assert place.admit(execution(4), Demand(1, GIB)) is True
    assert place.admit(execution(5), Demand(1, GIB)) is False


def test_a_call_goes_to_the_node_with_the_most_room() -> None:
    place = placement(*node("a", 2), *node("b", 4))
    first, second, third = execution(1), execution(2), execution(3)
    assert place.admit(first, Demand(2, 0))
    assert place.hosts_for(first) == ["b"]
    assert place.admit(second, Demand(2, 0))
    assert place.admit(third, Demand(2, 0))
    assert [place.hosts_for(second), place.hosts_for(third)] in ([["a"], ["b"]], [["b"], ["a"]])
    assert not place.admit(execution(4), Demand(2, 0))
    assert place.hosts_for(execution(5)) is None


def test_with_one_node_any_worker_will_do() -> None:
    place = placement(*node("a", 2))
    call = execution(1)
    assert place.admit(call, Demand(2, 0))
    assert place.hosts_for(call) is None


def test_a_call_alone_waits_for_those_with_a_place_on_its_node_and_keeps_it_closed() -> None:
    place = placement(*node("a", 4))
    first, alone, later = execution(1), execution(2), execution(3)
    assert place.admit(first, Demand(1, 0))
    assert not place.admit(alone, Demand(1, 0, alone=True))
    assert not place.admit(execution(9), Demand(1, 0, alone=True))
    assert not place.admit(later, Demand(1, 0))
    assert place.open_hosts() == []
    place.release(first)
    assert place.admit(alone, Demand(1, 0, alone=True))
    assert not place.admit(later, Demand(1, 0))
    assert place.open_hosts() == []
    place.release(alone)
    assert place.open_hosts() is None
    assert place.admit(later, Demand(1, 0))


def test_other_nodes_go_on_while_a_call_is_alone_or_waits_for_that() -> None:
    place = placement(*node("a", 2), *node("b", 2))
    before = [execution(4), execution(5)]
    alone, other, unplaced = execution(1), execution(2), execution(3)
    assert all(place.admit(call, Demand(1, 0)) for call in before)
    assert not place.admit(alone, Demand(1, 0, alone=True))
    assert len(place.open_hosts() or []) == 1
    for call in before:
        place.release(call)
    assert place.admit(alone, Demand(1, 0, alone=True))
    (closed,) = place.hosts_for(alone) or []
    assert place.admit(other, Demand(1, 0))
    (open_host,) = {"a", "b"} - {closed}
    assert place.hosts_for(other) == place.hosts_for(unplaced) == [open_host]
    place.release(alone)
    assert place.hosts_for(unplaced) is None


def test_a_waiting_call_that_was_to_run_alone_opens_its_node_when_it_is_cancelled() -> None:
    place = placement(*node("a", 2))
    assert place.admit(execution(3), Demand(1, 0))
    assert not place.admit(alone := execution(1), Demand(1, 0, alone=True))
    place.release(alone)
    assert place.admit(execution(2), Demand(1, 0))


def aware(*workers: WorkerInfo, taken: int = 0) -> Placement:
    made = Placement(lambda: workers, shares=True, taken=lambda: taken)
    made.refresh()
    return made


def test_what_the_workers_have_in_use_counts_and_each_may_use_all_of_the_node() -> None:
    workers = [worker._replace(level_bytes=100 * MIB) for worker in node("a", 4)]
    place = aware(*workers, taken=24 * MIB)
    assert place.share_bytes == 250 * MIB
    assert place.admit(execution(1), Demand(1, 550 * MIB))
    assert place.admit(second := execution(2), Demand(1, 50 * MIB))
    assert not place.admit(execution(3), Demand(1, MIB))
    place.release(second, left_bytes=49 * MIB)
    assert place.admit(execution(4), Demand(1, MIB))
    assert not place.admit(execution(5), Demand(1, MIB))


def test_a_call_that_fits_beside_nothing_has_the_node_for_itself() -> None:
    place = aware(*[worker._replace(level_bytes=300 * MIB) for worker in node("a", 4)])
    assert place.admit(first := execution(1), Demand(1, 900 * MIB))
    assert not place.admit(execution(2), Demand(1, 0))
    place.release(first)
    assert place.admit(execution(2), Demand(1, 900 * MIB))


def test_small_calls_overtake_a_large_one_only_so_often() -> None:
    place = aware(*node("a", 2))
    assert place.admit(running := execution(1), Demand(1, 600 * MIB))
    large = execution(2), Demand(1, 700 * MIB)
    assert not place.admit(*large)
    overtaking = 0
    while place.admit(small := execution(3), Demand(1, 100 * MIB)):
        overtaking += 1
        place.release(small)
        assert not place.admit(*large)
        assert overtaking < 50
    assert overtaking == 8
    place.release(running)
    assert not place.admit(execution(4), Demand(1, 100 * MIB))
    assert place.admit(*large)
    assert place.admit(execution(4), Demand(1, 100 * MIB))


def test_a_large_call_that_is_cancelled_no_longer_holds_up_others() -> None:
    place = aware(*node("a", 2))
    assert place.admit(execution(1), Demand(1, 600 * MIB))
    assert not place.admit(large := execution(2), Demand(1, 700 * MIB))
    for _ in range(20):
        place.admit(small := execution(3), Demand(1, 100 * MIB))
        place.release(small)
    assert not place.admit(small, Demand(1, 100 * MIB))
    place.release(large)
    assert place.admit(small, Demand(1, 100 * MIB))


def test_workers_with_limits_of_their_own_take_only_what_fits_into_these() -> None:
    full, empty = node("a", 2)
    place = Placement(lambda: [full._replace(level_bytes=700 * MIB), empty], taken=lambda: 0)
    place.refresh()
    assert place.admit(call := execution(1), Demand(1, 500 * MIB))
    assert place.hosts_for(call) == [empty.address]
    assert place.admit(small := execution(2), Demand(1, 100 * MIB))
    assert place.hosts_for(small) is None


def test_what_fits_nowhere_is_refused_with_the_largest() -> None:
    place = placement(*node("a", 2), *node("b", 3, 2 * GIB))
    assert place.refusal(Demand(3, 2 * GIB)) is None
    assert "it asks for 4 computing units, and the largest node has 3" in str(place.refusal(Demand(4, 0)))
    text = str(place.refusal(Demand(1, 3 * GIB)))
    assert "3.0 GiB of memory, and the largest worker, tcp://b:0, may use 2.0 GiB" in text


def _define() -> Any:
    @constraint(computing_units=2)
    @task(returns=1)
    def note(folder, number):
        path = Path(folder) / str(number)
        path.write_text("")
        time.sleep(0.2)
        together = len(list(Path(folder).iterdir()))
        path.unlink()
        return together

    @constraint(memory_size=10_000)
    @task(returns=1)
    def huge(x):
        return x

    @task(returns=1)
    def double(x):
        return 2 * x

    @implement(source_class=__name__, method="_define.<locals>.huge_or_small")
    @task(returns=1)
    def small(x):
        return Answer("small", x)

    @constraint(computing_units=1000)
    @task(returns=1)
    def huge_or_small(x):
        return "huge"

    @constraint(computing_units=2)
    @task(returns=1)
    def pair(path):
        return "pair"

    @implement(source_class=__name__, method="_define.<locals>.pair")
    @constraint(computing_units=1)
    @task(returns=1)
    def single(path):
        Path(path).touch()
        return "single"

    @constraint(computing_units=1, memory_size=0.001)
    @task(returns=1)
    def hold(path):
        while not Path(path).exists():
            time.sleep(0.01)
        return "held"

    return note, huge, double, huge_or_small, pair, hold


class Answer(NamedTuple):
    name: str
    x: object


note, huge, double, huge_or_small, pair, hold = _define()


def test_calls_that_need_two_units_run_one_after_the_other_on_two_workers(tmp_path: Path) -> None:
    with session(workers=2, run_folder=tmp_path / "runs"):
        (tmp_path / "marks").mkdir()
        futures = [note(tmp_path / "marks", number) for number in range(4)]
        assert wait_on([double(1), *futures]) == [2, 1, 1, 1, 1]
        refused = huge(1)
        after = double(refused)
        for future in (refused, after):
            with pytest.raises(ArgumentError, match=r"call \d+ of .*huge \(.*:\d+\) cannot run on any node: it asks"):
                wait_on(future)
        assert wait_on(note(tmp_path / "marks", 9)) == 1
        # The other implementations of a task: where its own fits on no node, or not now.
        assert wait_on([huge_or_small(1), double(huge_or_small(2))]) == [Answer("small", 1), ("small", 2, "small", 2)]
        held = hold(tmp_path / "go")
        assert wait_on(pair(tmp_path / "go")) == "single"
        assert wait_on(held) == "held"
        assert wait_on(pair(tmp_path / "go")) == "pair"
