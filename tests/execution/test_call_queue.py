from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runmem.execution.call_queue import CallQueue
from runmem.execution.call_state import CallState
from runmem.graph.call import Execution


def waiting() -> Execution:
    made = Execution(0, "f", 1)
    made.state = CallState()
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
