from __future__ import annotations

from typing import Any

import pytest

from runmem.errors import TaskDeclarationError
from runmem.graph.directions import INOUT
from runmem.graph.failure import Management, OnFailure, failure_policy
from runmem.graph.task import task
from runmem.pycompss.api.on_failure import on_failure


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"on_failure": None}, None),
        ({"on_failure": "RETRY"}, OnFailure(Management.RETRY)),
        ({"on_failure": "ignore", "defaults": {"returns": 3}}, OnFailure(Management.IGNORE, {"returns": 3})),
        ({"on_failure": {"management": "FAIL", "x": 1}}, OnFailure(Management.FAIL, {"x": 1})),
        ({"on_failure": INOUT}, None),
    ],
)
def test_the_forms_of_a_policy(options: Any, expected: OnFailure | None) -> None:
    assert failure_policy(options, "f") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_failure": "IGNOR"}, "on_failure='IGNOR' is not one of FAIL, RETRY, IGNORE, CANCEL_SUCCESSORS"),
        ({"on_failure": True}, "on_failure=True is not one of"),
        ({"on_failure": "IGNORE", "defaults": 3}, "defaults=3 is not a dictionary"),
        (
            {"on_memory": "retry"},
            r"test_failure.py:\d+\): on_memory='retry' is not one of retry_alone, retry_larger, fail",
        ),
        ({"on_memory": True}, "on_memory=True is not one of"),
    ],
)
def test_what_is_no_policy_is_refused(options: Any, message: str) -> None:
    with pytest.raises(TaskDeclarationError, match=message):
        task(**options)(lambda x: x)


def test_values_of_a_call_that_failed() -> None:
    policy = OnFailure(Management.IGNORE, {"returns": (1, 2)})
    assert policy.returned(2) == (1, 2)
    assert policy.returned(1) == ((1, 2),)
    assert OnFailure(Management.IGNORE).returned(3) == (None, None, None)


def test_the_decorator_above_a_task() -> None:
    @on_failure(management="CANCEL_SUCCESSORS", returns=0)
    @task(returns=1)
    def f(x):
        return x

    assert f.on_failure == OnFailure(Management.CANCEL_SUCCESSORS, {"returns": 0})
    assert f(4) == 4
    with pytest.raises(TaskDeclarationError, match="stands above @task"):
        on_failure(management="IGNORE")(lambda x: x)
    with pytest.raises(TaskDeclarationError, match="on_failure='NO' is not one of"):
        on_failure(management="NO")
