from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from runmem.execution.bundle import (
    LARGEST_RESULT_BYTES,
    MOST_CALLS,
    SHORT_S,
    TARGET_S,
    Durations,
    plan,
)
from runmem.execution.call_queue import CallQueue
from runmem.execution.call_state import Bundle, CallState
from runmem.graph.call import Execution, Version
from runmem.serialization.arguments import NO_PAYLOAD

LONG, SHORT, TINY, UNKNOWN = "long", "short", "tiny", "unknown"


def execution(number: int, name: str, needs: list[Execution], **more: Any) -> Execution:
    made = Execution(number, name, 1)
    inputs, after = needs[::2], tuple(needs[1::2])
    payload = NO_PAYLOAD._replace(inputs=[Version(needed, 0) for needed in inputs])
    made.state = CallState(payload=payload, after=after, **more)
    return made


def queue_of(executions: Iterable[Execution]) -> CallQueue:
    queue = CallQueue()
    for each in executions:
        queue.append(each)
    return queue


def known_durations() -> Durations:
    durations = Durations()
    durations.observe(LONG, 3, 30.0, 100)
    durations.observe(SHORT, 10, 0.02, 100)
    durations.observe(TINY, 1000, 0.01, 100)
    return durations


def random_graph(seed: int, calls: int) -> list[Execution]:
    choose = random.Random(seed)
    made: list[Execution] = []
    for number in range(calls):
        needs = choose.sample(made, min(len(made), choose.choice((0, 0, 1, 1, 2, 3))))
        if needs and choose.random() < 0.5:
            needs = [made[-1]]  # a chain
        alone = choose.random() < 0.05
        made.append(execution(number + 1, choose.choice((LONG, SHORT, TINY, TINY)), needs, is_single=alone))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_bundles_need_only_earlier_bundles_or_themselves(seed: int) -> None:
    calls = random_graph(seed, 150)
    durations = known_durations()
    workers = 1 + seed % 4
    bundles = plan(queue_of(calls), durations, workers, Counter(), lambda name: False)
    place = {call: number for number, bundle in enumerate(bundles) for call in bundle.executions}
    assert len(place) == len(calls)
    assert sum(len(bundle.executions) for bundle in bundles) == len(calls)
    for call in calls:
        for needed in call.state.needs:
            assert place[needed] <= place[call]
            if place[needed] == place[call]:
                inside = bundles[place[call]].executions
                assert inside.index(needed) < inside.index(call)
    for bundle in bundles:
        assert [call.task_id for call in bundle.executions] == sorted(call.task_id for call in bundle.executions)
        largest = max(durations.calls_per_bundle(call.name) for call in bundle.executions)
        assert len(bundle.executions) <= min(largest, MOST_CALLS)
        if any(call.state.is_single or call.name == LONG for call in bundle.executions):
            assert len(bundle.executions) == 1


def test_the_graph_of_bundles_has_no_circle_when_the_queue_is_planned_in_portions() -> None:
    calls = random_graph(7, 200)
    place: dict[Execution, int] = {}
    count = 0
    for begin in range(0, 200, 23):
        for bundle in plan(queue_of(calls[begin : begin + 23]), known_durations(), 2, Counter(), lambda name: False):
            place |= dict.fromkeys(bundle.executions, count)
            count += 1
    assert all(place[needed] <= place[call] for call in calls for needed in call.state.needs)


def test_short_independent_calls_share_a_bundle_and_every_worker_has_some() -> None:
    calls = [execution(number, TINY, []) for number in range(1000)]
    bundles = plan(queue_of(calls), known_durations(), 2, Counter(), lambda name: True)
    assert len(bundles) >= 2
    assert max(len(bundle.executions) for bundle in bundles) <= 500


def test_a_chain_of_short_calls_shares_a_bundle() -> None:
    calls = [execution(1, TINY, [])]
    for number in range(2, 11):
        calls.append(execution(number, TINY, [calls[-1]]))
    bundles = plan(queue_of(calls), known_durations(), 1, Counter(), lambda name: True)
    assert len(bundles) <= 2
    assert [call.task_id for bundle in bundles for call in bundle.executions] == list(range(1, 11))


def test_calls_of_unknown_duration_are_held_back_while_that_is_allowed() -> None:
    queue = queue_of(execution(number, UNKNOWN, []) for number in range(100))
    in_flight: Counter[str] = Counter()
    assert len(plan(queue, Durations(), 2, in_flight, lambda name: True)) == 4
    assert (len(queue), in_flight[UNKNOWN]) == (96, 4)
    assert plan(queue, Durations(), 2, in_flight, lambda name: True) == []
    assert len(plan(queue, Durations(), 2, in_flight, lambda name: False)) == 96
    assert not queue


def test_others_go_on_past_a_call_that_is_held_back_but_those_that_need_it() -> None:
    calls = [execution(number, UNKNOWN, []) for number in range(6)]
    calls += [execution(6, TINY, []), execution(7, TINY, [calls[5]]), execution(8, LONG, [calls[0]])]
    queue = queue_of(calls)
    bundles = plan(queue, known_durations(), 2, Counter(), lambda name: True)
    assert sorted(call.task_id for bundle in bundles for call in bundle.executions) == [0, 1, 2, 3, 6, 8]
    assert [call.task_id for call in queue] == [4, 5, 7]
    assert len(plan(queue, known_durations(), 2, Counter(), lambda name: True)) == 3


def test_what_waits_is_bundled_by_what_is_known_later() -> None:
    """The first calls import; what was sent singly stays single, and of 10,000 calls next to none is."""
    queue, durations, in_flight = queue_of(execution(n, "f", []) for n in range(10_000)), Durations(), Counter[str]()
    sent: list[Bundle] = plan(queue, durations, 2, in_flight, lambda name: True)
    for worker in range(2):  # each with an import of its own
        durations.observe("f", 1, 1.5, 8)
        in_flight["f"] -= 1
        sent += plan(queue, durations, 2, in_flight, lambda name: True)
        for calls in (2, 4, 8, 16 * worker):
            durations.observe("f", calls, calls * 1e-4, 8)
            in_flight["f"] = max(0, in_flight["f"] - calls)
            sent += plan(queue, durations, 2, in_flight, lambda name: True)
    while queue:
        durations.observe("f", 100, 100 * 1e-4, 8)
        in_flight["f"] = 0
        sent += plan(queue, durations, 2, in_flight, lambda name: True)
    assert len(sent) < 200
    assert sum(len(bundle.executions) == 1 for bundle in sent) < 80


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([], 4),
        ([(1, 2.0)], 8),
        ([(4, 8.0), (4, 8.0)], None),
        ([(4, 8.0), (4, 0.04)], 8),
        ([(1, 2.0), (4, 8.0), (4, 8.0), (1, 0.001)], 8),
    ],
    ids=["nothing known", "one", "long ones", "first ones long", "some long"],
)
def test_no_more_are_sent_than_keep_the_workers_busy_unless_all_are_long(
    reports: list[tuple[int, float]], expected: int | None
) -> None:
    durations = Durations()
    for calls, total_s in reports:
        durations.observe("f", calls, total_s, 8)
    assert durations.sent_limit("f", 2) == expected
    durations.observe("f", 1, 0.001, LARGEST_RESULT_BYTES + 1)
    assert durations.sent_limit("f", 2) is None, "calls with large results never share a bundle"


def test_a_call_that_awaits_another_lets_later_ones_pass() -> None:
    first = execution(1, LONG, [])
    chain = [execution(number, LONG, [first]) for number in range(2, 400)]
    later = execution(400, LONG, [])
    queue = queue_of([first, *chain, later])

    def sent(ended: bool) -> list[int]:
        bundles = plan(
            queue, known_durations(), 2, Counter(), lambda name: False,
            awaited=lambda each: first if first in each.state.needs and not ended else None,
        )  # fmt: skip
        return [call.task_id for bundle in bundles for call in bundle.executions]

    assert sent(ended=False) == [1, 400]
    queue.ended(first)
    assert sent(ended=True) == list(range(2, 400))


def turns(calls: list[Execution]) -> list[int]:
    return [call.state.turn for call in calls]


def test_calls_set_turns_in_the_order_of_the_program_and_each_at_once_after_what_it_needs() -> None:
    first, second = execution(1, "make", []), execution(2, "make", [])
    used = [execution(3, "use", [first]), execution(4, "use", [second])]
    both = execution(5, "both", used)
    chain = [execution(6, "again", [both])]
    also = execution(7, "use", [first])
    calls = [first, second, *used, both, *chain, also]
    queue_of(calls)
    assert turns(calls) == [1, 2, 1, 2, 2, 2, 7]


def test_a_large_value_that_calls_share_gives_them_no_turn() -> None:
    value = execution(0, "argument", [], has_value=True)
    calls = [value, *(execution(number, "use", [value]) for number in range(1, 4))]
    queue_of(calls)
    assert turns(calls) == [1, 2, 3, 4]


def test_durations_decide_how_many_calls_make_a_bundle() -> None:
    durations = Durations()
    assert durations.mean_s("f") is None
    assert durations.calls_per_bundle("f") == 1
    durations.observe("f", 4, 4 * TARGET_S / 10, 0)
    assert durations.calls_per_bundle("f") in (9, 10)
    durations.observe("f", 4, 8 * SHORT_S, 0)
    assert durations.calls_per_bundle("f") == 1
    for _ in range(2):
        durations.observe("f", 64, 64 * TARGET_S / 100, 0)  # the slow ones were the first
    assert 50 < durations.calls_per_bundle("f") <= 100
    durations.observe("g", 1, 0.0, 0)
    assert durations.calls_per_bundle("g") == MOST_CALLS
    durations.observe("g", 1, 0.0, LARGEST_RESULT_BYTES + 1)
    assert durations.calls_per_bundle("g") == 1


def test_the_key_of_a_bundle_tells_dask_the_name_of_the_task() -> None:
    from dask.utils import key_split

    keys = [Bundle.named("Model.fit <λ>").key for _ in range(100)]
    assert len(set(keys)) == 100
    assert {key_split(key) for key in keys} == {"Model.fit__λ_"}
