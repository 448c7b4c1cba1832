"""A reduction is a tree of calls over chunks, and its result is that of one call over all."""

from __future__ import annotations

from typing import Any

import pytest

from runmem.errors import TaskDeclarationError
from runmem.graph.directions import COLLECTION_IN, INOUT
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task
from runmem.pycompss.api.reduction import reduction


@task(returns=1)
def increment(x: int) -> int:
    return x + 1


def joined(values: list[str], separator: str) -> str:
    return separator.join(values)


@pytest.mark.parametrize("chunk_size", [2, 3, "8", "$CHUNK", "${CHUNK}"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 17])
def test_an_associative_function_gives_the_result_of_one_call(
    submitter: Any, monkeypatch: pytest.MonkeyPatch, chunk_size: int | str, count: int
) -> None:
    monkeypatch.setenv("CHUNK", "4")
    join = task(returns=1, values=COLLECTION_IN, is_reduce=True, chunk_size=chunk_size)(joined)
    values = [str(number) for number in range(count)]
    assert wait_on(join(values, separator="-")) == "-".join(values)
    sizes = [len(call.args[0]) for call in submitter.calls]
    assert max(sizes) <= {"$CHUNK": 4, "${CHUNK}": 4}.get(str(chunk_size), int(str(chunk_size).strip("${}CHUNK") or 4))
    assert len(sizes) == 1 or min(sizes) >= 2


def test_futures_and_values_are_reduced_together(submitter: Any) -> None:
    @reduction(chunk_size="2")
    @task(returns=1, col=COLLECTION_IN)
    def total(first: str, col: list[int]) -> int:
        return sum(col)

    values = [increment(number) if number % 2 else number for number in range(7)]
    assert wait_on(total("first", values)) == 24
    assert [call.task.name.rpartition(".")[2] for call in submitter.calls].count("total") == 6


def test_what_a_reduction_reads_may_have_been_written_by_a_task(submitter: Any) -> None:
    @task(values=INOUT)
    def extend(values: list[int]) -> None:
        values.extend([3, 4])

    @task(returns=1, values=COLLECTION_IN, is_reduce=True)
    def total(values: list[int]) -> int:
        return sum(values)

    values = [1, 2, 5]
    extend(values)
    assert wait_on(total(values)) == 15


def test_without_a_program_a_reduction_is_a_plain_call() -> None:
    calls: list[int] = []

    @reduction(chunk_size=2)
    @task(returns=1, values=COLLECTION_IN)
    def total(values: list[int]) -> int:
        calls.append(len(values))
        return sum(values)

    assert total([1, 2, 3, 4, 5]) == 15
    assert calls == [5]


def test_a_method_may_be_a_reduction(submitter: Any) -> None:
    class Adder:
        @reduction(chunk_size=2)
        @task(returns=1, values=COLLECTION_IN)
        def total(self, values: list[int]) -> int:
            return sum(values)

        @reduction(chunk_size=2)
        @staticmethod
        @task(returns=1, values=COLLECTION_IN)
        def product(values: list[int]) -> int:
            result = 1
            for value in values:
                result *= value
            return result

    assert wait_on(Adder().total([1, 2, 3, 4, 5]), Adder.product([1, 2, 3, 4, 5])) == [15, 120]


@pytest.mark.parametrize("chunk_size", [1, -2, "x", "$NO_SUCH_VARIABLE", 2.5])
def test_a_chunk_size_that_is_none_is_refused(chunk_size: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="is not a whole number of 2 or more"):
        task(returns=1, values=COLLECTION_IN, is_reduce=True, chunk_size=chunk_size)(joined)


def test_a_reduction_of_no_task_is_refused() -> None:
    with pytest.raises(TaskDeclarationError, match="it is not a task; put @task below @reduction"):
        reduction(chunk_size=2)(joined)
