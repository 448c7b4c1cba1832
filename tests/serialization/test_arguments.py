from __future__ import annotations

import gc
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from runmem.errors import ArgumentError, ResultError
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.future import Future
from runmem.graph.task import task
from runmem.serialization.arguments import pack
from runmem.serialization.definitions import program_definitions
from runmem.serialization.inputs import Inputs, unpack
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import LARGE_BYTES, Packed, load_stored, pack_value, take_stored
from runmem.serialization.snapshot import Snapshots

LARGE = LARGE_BYTES + 1


@task(returns=1)
def consume(first=None, *rest, **more):
    return first


class Cluster:
    """Keeps the large arguments that are sent, as a cluster would."""

    def __init__(self) -> None:
        self.sent: dict[Version, Packed] = {}
        self.large = LargeValues(self.send, keep_bytes=2 * LARGE + 10_000)

    def send(self, value: Packed, numbers: frozenset[int]) -> Version:
        version = Version(Execution(0, "argument", 1), 0)
        self.sent[version] = value
        return version

    def pack(self, *args: Any, resolve: Any = None, writes: tuple[Any, ...] = (), **kwargs: Any) -> Any:
        call = TaskCall(Execution(1, "consume", 1), consume, args, kwargs, 1, writes)
        return pack(call, resolve, self.large, Snapshots(program_definitions), lambda version: frozenset())

    def carry(
        self, values: dict[Version, Any], *args: Any, copied: bool = False, written: Any = (), **more: Any
    ) -> tuple[list[Any], dict[str, Any]]:
        """Pack a call and unpack it as a worker does, given the values of the versions in it."""
        payload = self.pack(*args, **more)
        kept = [pack_value(values[v], "a value") if v in values else self.sent[v] for v in payload.inputs]
        arguments = unpack(payload.arguments, Inputs(pickle.loads(pickle.dumps(kept, 5)), copied, frozenset(written)))
        return arguments.args, arguments.kwargs


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def version() -> Version:
    return Version(Execution(2, "make", 1), 0)


def test_plain_values_arrive_as_they_are(cluster: Cluster) -> None:
    args, kwargs = cluster.carry({}, 1, "x", None, 2.5, b"b", y=[1, {"z": (2,)}])
    assert (args, kwargs) == ([1, "x", None, 2.5, b"b"], {"y": [1, {"z": (2,)}]})
    assert cluster.sent == {}


def test_versions_and_futures_stand_for_results_at_any_depth(cluster: Cluster) -> None:
    one, two = version(), version()
    values = {one: ["one"], two: ["two"]}
    args, kwargs = cluster.carry(values, one, [Future(two), {"a": (Future(one),)}], z=two)
    assert (args, kwargs) == ([["one"], [["two"], {"a": (["one"],)}]], {"z": ["two"]})
    assert args[0] is args[1][1]["a"][0]


def test_tracked_lists_and_dictionaries_are_found_inside_arguments(cluster: Cluster) -> None:
    tracked: list[int] = [1]
    current = version()
    args, _ = cluster.carry(
        {current: [1, 2]}, {"deep": [tracked]}, resolve=lambda obj: current if obj is tracked else None
    )
    assert args == [{"deep": [[1, 2]]}]


def test_a_large_argument_is_sent_once_by_its_content(cluster: Cluster) -> None:
    block = np.arange(LARGE, dtype=np.uint8)
    (first,), _ = cluster.carry({}, block)
    (second,), _ = cluster.carry({}, block.copy())
    assert len(cluster.sent) == 1
    np.testing.assert_array_equal(first, second)
    block[0] = 77
    (third,), _ = cluster.carry({}, block)
    assert len(cluster.sent) == 2
    assert third[0] == 77
    assert first[0] == 0


def test_a_large_argument_is_as_it_was_at_the_call(cluster: Cluster) -> None:
    block = np.zeros(LARGE, dtype=np.uint8)
    payload = cluster.pack(block)
    block[:] = 1
    assert bytes(cluster.sent[payload.inputs[0]].buffers[0]) == bytes(LARGE)


def test_only_so_much_is_kept_of_large_arguments_that_nobody_waits_for(cluster: Cluster) -> None:
    for number in range(4):
        cluster.carry({}, np.full(LARGE, number, dtype=np.uint8))
    executions = [weakref.ref(version.execution) for version in cluster.sent]
    cluster.sent.clear()
    gc.collect()
    assert [execution() is not None for execution in executions] == [False, False, True, True]


@pytest.mark.parametrize("text", ["x" * LARGE, b"x" * LARGE])
def test_large_text_is_sent_once_too(cluster: Cluster, text: Any) -> None:
    assert cluster.carry({}, text)[0] == [text]
    assert cluster.carry({}, a=text)[1] == {"a": text}
    assert len(cluster.sent) == 1


def test_a_large_array_of_objects_may_hold_futures(cluster: Cluster) -> None:
    one = version()
    block = np.empty(LARGE_BYTES // 8 + 1, dtype=object)
    block[5] = Future(one)
    (found,), _ = cluster.carry({one: "one"}, block)
    assert found[5] == "one"


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ((threading.Lock(),), {}, "first"),
        ((1, 2, [threading.Lock()]), {}, r"rest\[1\]"),
        ((), {"key": threading.Lock()}, "key"),
        ((np.array([threading.Lock()] * (LARGE_BYTES // 4), dtype=object),), {}, "first"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named(cluster: Cluster, args: Any, kwargs: Any, place: str) -> None:
    with pytest.raises(ArgumentError, match=rf"consume \(.*py:\d+\): parameter '{place}' cannot be sent .*pickle"):
        cluster.carry({}, *args, **kwargs)


def test_readers_share_large_blocks_and_cannot_write_to_them(cluster: Cluster) -> None:
    block, small = np.zeros(LARGE), np.zeros(10)
    (first, mine), _ = cluster.carry({}, block, small)
    mine += 1
    with pytest.raises(ValueError, match="read-only"):
        first += 1
    assert (small.sum(), mine.sum()) == (0, 10)


def test_where_inputs_are_copied_each_reader_has_its_own(cluster: Cluster) -> None:
    block = np.zeros(LARGE)
    for _ in range(2):
        (mine,), _ = cluster.carry({}, block, copied=True)
        mine += 1
        assert mine.sum() == LARGE


def test_what_a_task_writes_is_its_own_and_what_it_reads_beside_that_is_shared(cluster: Cluster) -> None:
    block, other = np.zeros(LARGE), np.ones(LARGE)
    (mine, read), _ = cluster.carry({}, block, other, writes=(0,))
    mine += 1
    assert not read.flags.writeable
    assert mine.sum() == LARGE


def test_objects_that_arguments_share_stay_shared_also_between_read_and_written_ones(cluster: Cluster) -> None:
    shared = [np.zeros(LARGE)]
    (first, second, third), _ = cluster.carry({}, shared, {"a": shared}, shared, writes=(1,))
    assert first is second["a"] is third
    first[0] += 1
    assert third[0].sum() == LARGE


def test_a_result_that_two_arguments_name_is_one_object(cluster: Cluster) -> None:
    one = version()
    (first, second), kwargs = cluster.carry({one: [1]}, one, [Future(one)], c=one)
    assert first is second[0] is kwargs["c"]


class Box:
    def __init__(self) -> None:
        self.block = np.arange(10.0)
        self.items: list[Any] = [1, {"a": [2]}]


def test_each_reader_of_a_result_has_its_own() -> None:
    kept = pack_value(Box(), "a box")
    for private in (True, False):
        copy = load_stored(kept, private)
        copy.block += 1
        copy.items[1]["a"].append(3)
    again = load_stored(kept)
    assert again.block.sum() == 45
    assert again.items == [1, {"a": [2]}]


def test_an_array_is_not_copied_when_it_is_packed_nor_for_who_reads_it() -> None:
    import tracemalloc

    block = np.ones(4_000_000)
    tracemalloc.start()
    kept = pack_value(block, "a block")
    read = load_stored(kept, private=False)
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 100_000
    mine = load_stored(kept, private=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(read, block)
    assert not read.flags.writeable
    assert not np.shares_memory(mine, block)
    assert peak < 1.5 * block.nbytes


def test_what_the_program_fetches_is_its_own_and_writable() -> None:
    kept = pickle.loads(pickle.dumps(pack_value({"a": np.zeros(LARGE)}, "a value"), 5))
    take_stored(kept)["a"] += 1


def test_a_value_that_cannot_be_packed_says_so_to_who_asks_for_it() -> None:
    kept = pickle.loads(pickle.dumps(pack_value(threading.Lock(), "the result of task f (call 3)")))
    with pytest.raises(ResultError, match=r"the result of task f \(call 3\), of type lock, cannot be sent to another"):
        load_stored(kept)


class _ExitsWhenPickled:
    def __reduce__(self) -> tuple[object, ...]:
        raise SystemExit(3)


def test_a_class_that_exits_when_it_is_pickled_is_a_value_that_cannot_be_packed() -> None:
    kept = pack_value(_ExitsWhenPickled(), "the result of task f (call 3)")
    with pytest.raises(ResultError, match=r"of type _ExitsWhenPickled, cannot be sent .*\(SystemExit: 3\)"):
        load_stored(kept)


def test_large_data_in_a_container_is_sent_once_and_small_arguments_beside_it_stay(cluster: Cluster) -> None:
    blocks = [np.full(LARGE, number, dtype=np.uint8) for number in range(3)]
    for number in range(4):
        (arrived, text), _ = cluster.carry({}, blocks, str(number))
        assert text == str(number)
        np.testing.assert_array_equal(arrived, blocks)
    assert len(cluster.sent) == 3
