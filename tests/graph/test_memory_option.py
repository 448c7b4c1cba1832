"""`@task(memory=)`: what it takes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from runmem import INOUT, task
from runmem.errors import TaskDeclarationError


@pytest.mark.parametrize(
    ("value", "expected"), [("2GiB", 2 * 1024**3), ("500 MB", 500 * 10**6), (4 * 1024**2, 4 * 1024**2), ("4 KiB", 4096)]
)
def test_an_amount_of_memory_is_taken(value: object, expected: int) -> None:
    @task(returns=1, memory=value)
    def f() -> int:
        return 1

    assert f.memory_bytes == expected


@pytest.mark.parametrize("value", ["lots", "-2GiB", 0, -1, True, 0.5, float("nan"), [1]])
def test_what_is_no_amount_is_refused_with_file_and_line(value: object) -> None:
    with pytest.raises(TaskDeclarationError, match=r"f \(.*test_memory_option\.py:\d+\): memory=.* is not an amount"):

        @task(returns=1, memory=value)
        def f() -> int:
            return 1


@pytest.mark.parametrize("value", [2, "500"])
def test_a_small_number_without_a_unit_is_refused(value: object) -> None:
    with pytest.raises(TaskDeclarationError, match=rf'means {value} bytes: write a unit, such as "{value}GiB"'):

        @task(returns=1, memory=value)
        def f() -> int:
            return 1


def test_a_parameter_may_have_that_name() -> None:
    @task(memory=INOUT)
    def f(memory: list[Any]) -> None:
        memory.append(1)

    assert f.memory_bytes is None
    f(values := [])
    assert values == [1]
