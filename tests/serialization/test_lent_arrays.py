"""What a task only reads and passes on can be written to by whoever gets it, as if there had been no worker."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runmem.serialization.packed import load_stored, pack_value

SHAPE = (300, 500)

MADE: dict[str, Callable[[], Any]] = {
    "rows": lambda: np.arange(150_000.0).reshape(SHAPE),
    "columns": lambda: np.asfortranarray(np.arange(150_000.0).reshape(SHAPE)),
    "fields": lambda: np.zeros(SHAPE, dtype=[("a", "f8"), ("b", "i4")]),
    "times": lambda: np.arange(150_000).astype("datetime64[s]").reshape(SHAPE),
}
PASSED: dict[str, Callable[[Any], Any]] = {
    "whole": lambda array: array,
    "transposed": lambda array: array.T,
    "part of the rows": lambda array: array[100:],
    "part of the columns": lambda array: array[:, 1::2],
    "backwards": lambda array: array[::-1],
    "one dimension": lambda array: array.ravel(order="A"),
}


def through_a_task(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a task makes of a value that it may only read, as whoever may write to it gets it."""
    read = load_stored(pack_value(value, "an argument"), private=False)
    return load_stored(pack_value(function(read), "a result"))


@pytest.mark.parametrize("passed", PASSED)
@pytest.mark.parametrize("made", MADE)
def test_an_array_that_a_task_passes_on_can_be_written_to(made: str, passed: str) -> None:
    array = MADE[made]()
    expected = PASSED[passed](array)
    got = through_a_task(array, PASSED[passed])
    assert got.dtype == expected.dtype
    assert np.array_equal(got, expected)
    got[:1] = got[-1:]


def test_the_memory_that_was_given_for_reading_stays_as_it_is() -> None:
    kept = pack_value(np.zeros(SHAPE), "an argument")
    passed = pack_value([load_stored(kept, private=False)], "a result")
    load_stored(passed)[0][:] = 1
    assert not load_stored(kept, private=False).any()


def test_bytes_that_nobody_can_write_to_are_copied_first() -> None:
    kept = pack_value(np.arange(150_000), "an argument")
    kept.buffers = tuple(memoryview(bytes(buffer)) for buffer in kept.buffers)  # as after a spill
    got = load_stored(pack_value(load_stored(kept, private=False), "a result"))
    got += 1
    assert got[0] == 1


def test_arrays_that_are_one_stay_one() -> None:
    first, second = through_a_task(np.zeros(SHAPE), lambda array: [array, array])
    assert first is second


def test_an_array_that_the_program_protects_stays_protected() -> None:
    array = np.zeros(SHAPE)
    array.flags.writeable = False
    assert not load_stored(pack_value(array, "an argument")).flags.writeable


def test_what_is_passed_on_is_not_copied() -> None:
    kept = pack_value(np.zeros(1_000_000), "an argument")
    array = load_stored(kept, private=False)
    tracemalloc.start()
    passed = pack_value(array, "a result")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert passed.nbytes > 8_000_000
    assert peak_bytes < 100_000


def test_a_table_that_a_task_passes_on_can_be_written_to() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": np.zeros(100_000), "b": np.zeros(100_000)})
    got = through_a_task(table, lambda table: table)
    got.loc[:, "b"] = 1.0
    assert got["b"].sum() == 100_000
