"""A block of memory is a value's own only if nothing else can see it."""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runmem.errors import ResultError
from runmem.serialization.owned_memory import claim
from runmem.serialization.packed import Packed, load_stored, pack_value
from runmem.serialization.references import loads

LENGTH = 100_000


def view(value: Any) -> memoryview:
    return memoryview(pickle.PickleBuffer(value).raw()).cast("B")


def are_own(views: list[memoryview]) -> list[bool]:
    return [block.is_own for block in claim(views)]


def packed(value: object) -> Packed:
    found = pack_value(value, "a value")
    assert type(found) is Packed
    return found


def taken(stored: Packed) -> tuple[Any, bool]:
    """Return a value that is taken over, and whether any of it is not copied."""
    over = stored.take_over()
    return loads(stored.data, over.blocks), bool(over.own)


ALONE: dict[str, Callable[[], list[memoryview]]] = {
    "array": lambda: [view(np.zeros(LENGTH))],
    "by columns": lambda: [view(np.zeros((100, 1000), order="F"))],
    "part of an array": lambda: [view(np.zeros(LENGTH)[5:50])],
    "bytes that can change": lambda: [memoryview(bytearray(LENGTH))],
    "two arrays": lambda: [view(np.zeros(LENGTH)), view(np.zeros(LENGTH))],
}
SHARED: dict[str, Callable[[list[Any]], list[memoryview]]] = {
    "the array": lambda kept: [view(kept[0])],
    "part of it": lambda kept: [view(kept[0][10:20])],
    "in another shape": lambda kept: [view(kept[0].reshape(10, -1))],
    "lent for reading": lambda kept: [lent(kept)],
    "as other numbers": lambda kept: [view(kept[0].view("i4"))],
}


def lent(kept: list[Any]) -> memoryview:
    memory = view(kept.pop())
    kept.append(memory.toreadonly())
    return memory


@pytest.mark.parametrize("name", ALONE)
def test_what_nothing_else_refers_to_is_own(name: str) -> None:
    assert all(are_own(ALONE[name]()))


@pytest.mark.parametrize("name", SHARED)
def test_what_something_refers_to_is_not_own(name: str) -> None:
    kept: list[Any] = [np.zeros(LENGTH)]
    assert are_own(SHARED[name](kept)) == [False]
    views = claim(SHARED[name](kept))
    assert type(views[0].view) is memoryview
    del kept[:]


def test_blocks_that_share_memory_are_not_own() -> None:
    array = np.zeros(LENGTH)
    apart, together = [view(array[:500]), view(array[500:])], [view(array[:501]), view(array[500:])]
    del array
    assert are_own(together) == [False, False]
    del together
    assert are_own(apart) == [True, True]


def test_memory_of_unknown_owners_is_not_own() -> None:
    assert are_own([view(np.frombuffer(mmap.mmap(-1, LENGTH), "u1"))]) == [False]
    assert are_own([memoryview(bytes(LENGTH))]) == [False]
    fixed = np.zeros(LENGTH)
    fixed.flags.writeable = False
    assert are_own([view(fixed)]) == [False]


def test_a_value_is_changed_in_place_again_and_again() -> None:
    stored = packed({"a": np.zeros(LENGTH), "b": [np.ones((10, 10_000), order="F").T]})
    for _ in range(2000):
        value, is_own = taken(stored)
        assert is_own
        value["a"] += 1
        value["b"][0] += 1
        stored = packed(value)
        del value
    result: Any = load_stored(stored)
    assert (result["a"] == 2000).all()
    assert (result["b"][0] == 2001).all()
    owner = stored.buffers[0].obj
    links = 0
    while owner is not None and type(owner) in (np.ndarray, memoryview):
        owner, links = (owner.obj if type(owner) is memoryview else owner.base), links + 1
    assert links < 10  # each change adds none


def test_a_value_that_is_lent_is_copied_and_stays() -> None:
    stored = packed(np.zeros(LENGTH))
    reader = stored.load(private=False)
    value, is_own = taken(stored)
    assert not is_own
    value += 1
    assert not reader.any()  # type: ignore[attr-defined]
    assert not load_stored(stored).any()  # type: ignore[attr-defined]
    del reader
    value, is_own = taken(stored)
    assert is_own


def test_a_result_that_contains_what_was_lent_keeps_it() -> None:
    stored = packed(np.zeros(LENGTH))
    passed = packed([stored.load(private=False)])
    assert not taken(stored)[1]
    del passed
    assert taken(stored)[1]


@pytest.mark.parametrize("reading", ["iterator", "buffer", "frames", "pickle buffer"])
def test_a_value_that_is_being_sent_is_copied(reading: str) -> None:
    stored = packed(np.zeros(LENGTH))
    frames: list[Any] = []
    if reading == "iterator":
        frames.append(iter(stored.buffers))
    elif reading == "buffer":
        frames.append(stored.__reduce__())
    else:
        pickle.dumps(stored, 5, buffer_callback=frames.append)
        frames = [frame.raw() for frame in frames] if reading == "frames" else frames
    value, is_own = taken(stored)
    assert not is_own
    value += 1
    assert not load_stored(stored).any()  # type: ignore[attr-defined]


def test_what_was_taken_over_can_neither_be_read_nor_sent() -> None:
    stored = packed(np.zeros(LENGTH))
    value, _ = taken(stored)
    for use in (stored.take_over, lambda: stored.load(True), lambda: pickle.dumps(stored, 5), stored.copied):
        with pytest.raises(ResultError, match="change it in place"):
            use()
    assert stored.nbytes < 1000
    assert not value.any()


def test_one_of_two_blocks_is_copied() -> None:
    kept = np.zeros(LENGTH)
    stored = packed([kept, np.zeros(LENGTH), "text" * 100_000])
    value, is_own = taken(stored)
    assert is_own
    value[0] += 1
    value[1] += 1
    assert not kept.any()
    assert value[2] == "text" * 100_000
