from __future__ import annotations

import pytest

from runmem.execution.unseen_errors import UnseenErrors
from runmem.graph.call import Execution
from runmem.serialization.task_error import set_root_task


def failed(number: int, root: int) -> tuple[Execution, ValueError]:
    error = ValueError(f"of {root}")
    set_root_task(error, root)
    return Execution(number, "f", 1), error


def test_calls_that_fail_with_one_error_count_once() -> None:
    unseen = UnseenErrors()
    for number in (1, 2, 3):
        unseen.add(*failed(number, 1))
    unseen.add(*failed(4, 4))
    assert [str(error) for error in unseen] == ["of 1", "of 4"]


@pytest.mark.parametrize("seen", [1, 2])
def test_an_error_that_was_seen_is_not_told_again_when_another_call_fails_with_it(seen: int) -> None:
    unseen = UnseenErrors()
    unseen.add(*failed(1, 1))
    unseen.saw(*failed(seen, 1))
    unseen.add(*failed(3, 1))
    assert not unseen
    unseen.add(*failed(5, 5))
    assert str(unseen.take()) == "of 5"
    unseen.add(*failed(6, 5))
    assert list(unseen) == []


def test_an_error_that_takes_no_note_of_its_call_counts_for_the_call_that_has_it() -> None:
    unseen = UnseenErrors()
    unseen.add(Execution(7, "f", 1), ValueError("bare"))
    unseen.add(Execution(8, "f", 1), ValueError("bare"))
    unseen.saw(Execution(7, "f", 1), ValueError("bare"))
    assert len(list(unseen)) == 1
