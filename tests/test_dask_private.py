"""What runmem uses of Dask beyond its public interface is there, and does what it is used for."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterator
from typing import Any

import dask._task_spec
import distributed
import pytest
from distributed.comm import tcp

from runmem.dask_private import (
    _INTERVAL_S,
    _LOGGED_MESSAGES,
    send_graph,
    tell_of_receiving,
    tune_streams,
    worker_memory_limit,
)
from runmem.units import MIB


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
            dashboard_address="127.0.0.1:0", memory_limit=2**30,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):  # fmt: skip
        yield client


def test_the_private_names_are_there() -> None:
    task = dask._task_spec.Task("key-1", operator.add, 1, dask._task_spec.TaskRef("key-2"))
    assert task.dependencies == {"key-2"}


def test_a_graph_is_sent_with_its_literals_as_they_are(client: distributed.Client) -> None:
    """A text that looks like a key stays a text, and a tuple with a function in front is not called."""
    first = send_graph(client, {"a-1": (operator.add, (1, 2), [])})
    graph = {"b-1": (_all, ("a-1", (operator.add, 1, 2)), ["a-1"]), "c-1": (operator.neg, (), ["a-1"])}
    sent = send_graph(client, graph)
    assert sorted(sent) == ["b-1", "c-1"]
    assert client.gather([first["a-1"], sent["c-1"]]) == [3, -3]
    text, pair, value = sent["b-1"].result()
    assert (text, value) == ("a-1", 3)
    assert pair[1:] == (1, 2)


_all = lambda *values: values  # noqa: E731 - by value, wherever this file lies


def test_messages_wait_less_for_company(client: distributed.Client) -> None:
    assert client.scheduler_comm.interval > _INTERVAL_S
    tune_streams(client)
    assert client.scheduler_comm.interval == _INTERVAL_S
    workers = client.run(lambda dask_worker: dask_worker.batched_stream.interval)
    assert set(workers.values()) == {_INTERVAL_S}
    streams = client.run_on_scheduler(lambda dask_scheduler: [s.interval for s in dask_scheduler.stream_comms.values()])
    assert set(streams) == {_INTERVAL_S}


def test_few_messages_are_kept(client: distributed.Client) -> None:
    """Each has the arguments of many calls in it."""
    tune_streams(client)
    for number in range(3 * _LOGGED_MESSAGES):
        assert send_graph(client, {f"d-{number}": (operator.neg, (number,), [])})[f"d-{number}"].result() == -number
    assert len(client.scheduler_comm.recent_message_log) == _LOGGED_MESSAGES
    kept = client.run_on_scheduler(
        lambda dask_scheduler: [len(s.recent_message_log) for s in dask_scheduler.stream_comms.values()]
    )
    assert kept == [_LOGGED_MESSAGES]


def test_a_dask_that_is_built_otherwise_is_slower_and_that_is_all() -> None:
    class Other:
        pass

    tune_streams(Other())
    assert worker_memory_limit(Other()) is None


def test_the_memory_limit_of_a_worker_is_known(client: distributed.Client) -> None:
    limits = client.run(lambda dask_worker: worker_memory_limit(dask_worker))
    assert set(limits.values()) == {2**30}


class Told:
    def __init__(self) -> None:
        self.coming_bytes: list[int] = []
        self.blocks: list[Any] = []

    def coming(self, size_bytes: int) -> int:
        self.coming_bytes.append(size_bytes)
        return size_bytes

    def came(self, coming: int, block: Any) -> None:
        assert memoryview(block).nbytes == coming
        self.blocks.append(weakref.ref(block))


def test_a_process_is_told_of_the_blocks_that_it_receives(
    client: distributed.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "read_bytes_rw", tcp.read_bytes_rw)  # put back at the end
    first, told = Told(), Told()
    assert tell_of_receiving(first)
    assert tell_of_receiving(told)  # in its place
    sent = send_graph(client, {"received-1": (_array, (MIB,), [])})
    assert client.gather(sent["received-1"]).nbytes == MIB
    assert any(MIB <= size < MIB + 10_000 for size in told.coming_bytes)
    assert len(told.blocks) == len(told.coming_bytes)
    assert first.coming_bytes == []


def test_where_dask_has_no_such_place_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tcp, "read_bytes_rw")
    assert not tell_of_receiving(Told())


def _array(size: int) -> Any:
    import numpy

    return numpy.ones(size, dtype="u1")
