from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runmem.execution.call_queue import CallQueue
from runmem.execution.call_state import CallState
from runmem.graph.call import Execution, Version
from runmem.serialization.arguments import NO_PAYLOAD


def waiting() -> Execution:
    made = Execution(0, "f", 1)
    made.state = CallState()
    return made


def needing(*needs: Execution) -> Execution:
    made = waiting()
    payload = NO_PAYLOAD._replace(inputs=[Version(needed, 0) for needed in needs])
    made.state = CallState(payload=payload)
    return made


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_whatever_is_taken_and_put_back_the_order_is_that_of_the_program(data: Any) -> None:
    queue, order, out = CallQueue(), [], []
    for _ in range(data.draw(st.integers(0, 30))):
        action = data.draw(st.sampled_from(["append", "append", "take", "put back"]))
        if action == "append":
            order.append(waiting())
            queue.append(order[-1])
        elif action == "take" and len(queue):
            assert queue.first is next(iter(queue))
            out.append(queue.take())
        elif action == "put back" and out:
            again = data.draw(st.lists(st.sampled_from(out), unique=True))
            out = [execution for execution in out if execution not in again]
            queue.put_back(again)
        assert list(queue) == [execution for execution in order if execution not in out]
        assert all(one.state.number < other.state.number for one, other in pairwise(queue))
    left = list(queue)
    assert queue.clear() == left
    assert not queue


def test_an_execution_that_is_kept_aside_is_taken_in_its_place_once_the_other_has_ended() -> None:
    queue, made = CallQueue(), [waiting() for _ in range(4)]
    for each in made:
        queue.append(each)
    first, second, third, fourth = made
    assert [queue.take(), queue.take()] == [first, second]
    queue.keep_aside(second, first)
    assert (list(queue), queue.first, queue.is_kept_aside(second)) == ([second, third, fourth], third, True)
    queue.ended(third)
    assert queue.first is third
    before = queue.changes
    queue.ended(first)
    assert (queue.first, queue.is_kept_aside(second)) == (second, False)
    assert queue.changes > before
    queue.keep_aside(queue.take(), first)
    assert queue.remove({second, fourth}) == [second, fourth]
    queue.ended(first)
    assert list(queue) == [third]
    queue.keep_aside(queue.take(), first)
    assert queue.first is None
    assert queue.clear() == [third]
    assert not queue


def test_by_turn_a_result_is_used_before_others_are_made() -> None:
    queue = CallQueue(by_turn=True)
    loads = [waiting() for _ in range(4)]
    sums = [needing(loads[0], loads[1]), needing(loads[2], loads[3])]
    last = needing(*sums)
    for each in (*loads, *sums, last):
        queue.append(each)
    assert list(queue) == [*loads[:2], sums[0], *loads[2:], sums[1], last]
