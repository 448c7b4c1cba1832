from __future__ import annotations

import gc
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from runmem.errors import ArgumentError
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.future import Future
from runmem.graph.task import task
from runmem.serialization.arguments import LARGE_BYTES, LargeArguments, Literal, pack, private_copy, unpack

LARGE = LARGE_BYTES + 1


@task(returns=1)
def consume(first=None, *rest, **more):
    return first


class Cluster:
    """Keeps the large arguments that are sent, as a cluster would."""

    def __init__(self) -> None:
        self.sent: dict[Version, Literal] = {}
        self.large = LargeArguments(self.send, keep_bytes=2 * LARGE + 10_000)

    def send(self, literal: Literal) -> Version:
        version = Version(Execution(0, "argument", 1), 0)
        self.sent[version] = literal
        return version

    def arrived(self, version: Version) -> Any:
        """Return what a worker loads; a literal is loaded once, so each worker has its own."""
        return pickle.loads(pickle.dumps(self.sent[version], protocol=5)).load()

    def carry(self, values: dict[Version, Any], *args: Any, resolve: Any = None, **kwargs: Any) -> Any:
        """Pack a call and unpack it as a worker does, given the values of the versions in it."""
        call = TaskCall(Execution(1, "consume", 1), consume, args, kwargs, 1)
        body = pack(call, resolve, self.large)
        inputs = [values[v] if v in values else self.arrived(v) for v in body.inputs]
        return unpack(body.data, inputs, body.places)


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
    body = pack(TaskCall(Execution(1, "consume", 1), consume, (block,), {}, 1), None, cluster.large)
    block[:] = 1
    assert cluster.sent[body.inputs[0]].load().sum() == 0


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
    with pytest.raises(ArgumentError, match=rf"consume: parameter '{place}' cannot be sent to a worker: .*pickle"):
        cluster.carry({}, *args, **kwargs)


def test_a_private_copy_shares_nothing_that_can_change() -> None:
    class Box:
        def __init__(self) -> None:
            self.block = np.arange(10.0)
            self.items = [1, {"a": [2]}]

    box = Box()
    copy = private_copy(box)
    copy.block += 1
    copy.items[1]["a"].append(3)
    assert box.block.sum() == 45
    assert box.items == [1, {"a": [2]}]
    assert type(copy).__name__ == "Box"


def test_a_private_copy_may_be_changed_where_the_original_may() -> None:
    assert private_copy([np.zeros(10)])[0].flags.writeable
    assert not private_copy(np.frombuffer(bytes(80))).flags.writeable


def test_a_private_copy_copies_an_array_once() -> None:
    block = np.ones(4_000_000)
    import tracemalloc

    tracemalloc.start()
    copy = private_copy(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not np.shares_memory(copy, block)
    assert peak < 1.5 * block.nbytes


def test_large_data_in_a_container_is_sent_once_and_small_arguments_beside_it_stay(cluster: Cluster) -> None:
    blocks = [np.full(LARGE, number, dtype=np.uint8) for number in range(3)]
    for number in range(4):
        (arrived, text), _ = cluster.carry({}, blocks, str(number))
        assert text == str(number)
        np.testing.assert_array_equal(arrived, blocks)
    assert len(cluster.sent) == 1


def test_what_a_literal_was_packed_in_is_let_go_when_it_is_loaded() -> None:
    literal = Literal(pickle.dumps(b"x"), [b"y" * 100])
    assert literal.load() == b"x"
    assert (literal.data, literal.buffers) == (b"", [])
