from __future__ import annotations

import threading

import pytest

from runmem.collection.observer import Observers
from runmem.execution.call_state import CallState
from runmem.execution.call_table import CallTable
from runmem.execution.run_services import RunServices
from runmem.graph.call import Execution


def never_connected() -> tuple[object, int]:
    raise AssertionError("nothing is sent")


@pytest.fixture
def full() -> CallTable:
    """A table whose queue is as long as it may be."""
    services = RunServices("run", never_connected, Observers([]), lambda task_id: None)
    table = CallTable(services, longest_queue=3)
    for number in range(3):
        table.add(Execution(number + 1, "f", 1, CallState()))
    return table


def end_first(table: CallTable) -> None:
    with table.changed:
        table.end(table.queue.take(), None)
        table.changed.notify_all()


def test_a_program_waits_until_a_full_queue_is_shorter(full):
    waiting = threading.Thread(target=full.wait_for_room)
    waiting.start()
    end_first(full)
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert len(full.queue) == 2
    full.wait_for_room()  # there is room


def test_it_goes_on_if_no_call_ends(full):
    full.wait_for_room()
    assert len(full.queue) == 3
