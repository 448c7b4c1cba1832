"""What runmem uses of Dask beyond its public interface is there, and does what it is used for."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import operator
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask._task_spec
import distributed
import pytest
from distributed.comm import tcp

from runmem.dask_private import (
    AroundTask,
    WorkerTask,
    count_deaths,
    is_wanted,
    memory_in_use,
    report_level,
    report_receiving,
    send_graph,
    set_worker_memory_limit,
    size_of_task,
    surround_task,
    tune_streams,
    uncover_task,
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


def test_where_dask_has_no_such_place_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # First in this file: a cluster in this process could not read its messages meanwhile.
    monkeypatch.delattr(tcp, "read_bytes_rw")
    assert not report_receiving(Told())


def test_a_worker_reports_with_its_heartbeats_what_it_has_in_use(
    client: distributed.Client, eventually: Callable[..., None]
) -> None:
    def described() -> tuple[int, int]:
        (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
        return memory_in_use(worker)

    client.run(lambda dask_worker: report_level(dask_worker, lambda: 4711))
    eventually(lambda: described()[0] == 4711)
    assert described()[1] > MIB
    client.run(lambda dask_worker: report_level(dask_worker, None))
    eventually(lambda: described()[0] == described()[1] > MIB)


def test_the_private_names_are_there() -> None:
    task = dask._task_spec.Task("key-1", operator.add, 1, dask._task_spec.TaskRef("key-2"))
    assert task.dependencies == {"key-2"}


def test_a_graph_is_sent_with_its_literals_as_they_are(client: distributed.Client) -> None:
    """A text that looks like a key stays a text, and a tuple that starts with a function is not called."""
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
    before = client.scheduler_comm.interval
    tune_streams(client)
    shortened = client.scheduler_comm.interval
    assert shortened < before
    workers = client.run(lambda dask_worker: dask_worker.batched_stream.interval)
    assert set(workers.values()) == {shortened}
    streams = client.run_on_scheduler(lambda dask_scheduler: [s.interval for s in dask_scheduler.stream_comms.values()])
    assert set(streams) == {shortened}


def test_few_messages_are_kept(client: distributed.Client) -> None:
    """Each has the arguments of many calls in it."""
    tune_streams(client)
    most = client.scheduler_comm.recent_message_log.maxlen
    assert most < 100
    for number in range(3 * most):
        assert send_graph(client, {f"d-{number}": (operator.neg, (number,), [])})[f"d-{number}"].result() == -number
    assert len(client.scheduler_comm.recent_message_log) == most
    kept = client.run_on_scheduler(
        lambda dask_scheduler: [len(s.recent_message_log) for s in dask_scheduler.stream_comms.values()]
    )
    assert kept == [most]


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

    def receiving(self, size_bytes: int) -> int:
        self.coming_bytes.append(size_bytes)
        return size_bytes

    def received(self, coming: int, block: Any) -> None:
        assert memoryview(block).nbytes == coming
        self.blocks.append(weakref.ref(block))


def test_a_process_is_told_of_the_blocks_that_it_receives(
    client: distributed.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "read_bytes_rw", tcp.read_bytes_rw)  # put back at the end
    first, told = Told(), Told()
    assert report_receiving(first)
    assert report_receiving(told)  # in its place
    sent = send_graph(client, {"received-1": (_array, (MIB,), [])})
    assert client.gather(sent["received-1"]).nbytes == MIB
    assert any(MIB <= size < MIB + 10_000 for size in told.coming_bytes)
    assert len(told.blocks) == len(told.coming_bytes)
    assert first.coming_bytes == []


def _array(size: int) -> Any:
    import numpy

    return numpy.ones(size, dtype="u1")


class _Noted:
    """Notes what happens around a call."""

    def __init__(self, task: WorkerTask, noted: list[object]) -> None:
        self.task, self.noted = task, noted

    def begin(self) -> None:
        self.noted.append(("begin", self.task.key, threading.get_ident()))

    def end(self, result: object, error: BaseException | None) -> None:
        self.noted.append(("end", result, type(error)))


class _Surrounds(distributed.WorkerPlugin):  # type: ignore[misc]
    """Surrounds each task that a worker begins."""

    name = "surrounds"

    def __init__(self) -> None:
        self.noted: list[object] = []
        self.tasks: list[WorkerTask] = []
        self.refused: list[str | None] = []

    def setup(self, worker: Any) -> None:
        self.worker = worker

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        if finish == "executing":
            self.refused.append(surround_task(self.worker, key, self._note))
        elif start == "executing":
            uncover_task(self.worker, key)

    def _note(self, task: WorkerTask) -> _Noted:
        self.tasks.append(task)
        return _Noted(task, self.noted)


def test_a_task_of_a_worker_is_surrounded_in_its_own_thread_and_then_itself_again(client: distributed.Client) -> None:
    """It uses `Worker.state.tasks` with `run_spec`, `run_id`, `prefix`, `annotations`, `dependencies` and `nbytes`."""
    (worker,) = client.cluster.workers.values()
    plugin = _Surrounds()
    client.sync(worker.plugin_add, plugin=plugin)
    try:
        first = client.submit(lambda: threading.get_ident(), key="around-1")
        thread = first.result()
        with dask.annotate(purpose="test"):
            second = client.submit(operator.add, first, 1, key="around-2")
            assert second.result() == thread + 1
        assert plugin.noted == [
            ("begin", "around-1", thread), ("end", thread, type(None)),
            ("begin", "around-2", thread), ("end", thread + 1, type(None)),
        ]  # fmt: skip
        of_first, of_second = plugin.tasks
        assert 0 < of_first.number < of_second.number
        assert (of_second.prefix, of_second.annotations["purpose"]) == ("around", "test")
        assert of_second.inputs == [("around-1", size_of_task(worker, "around-1"))]
        assert plugin.refused == [None, None]
        fails = client.submit(operator.truediv, 1, 0, key="around-3")
        with pytest.raises(ZeroDivisionError):
            fails.result()
        assert plugin.noted[-1] == ("end", None, ZeroDivisionError)

        async def waits() -> int:
            return 5

        assert client.submit(waits, key="around-4").result() == 5
        assert plugin.noted[-1] == ("end", 5, type(None))
        assert not any(isinstance(task.run_spec, AroundTask) for task in worker.state.tasks.values())
    finally:
        client.sync(worker.plugin_remove, name=plugin.name)


def test_a_surrounded_task_is_itself_where_it_is_pickled_or_shown() -> None:
    task = dask._task_spec.Task("key-1", operator.neg, 3)
    around = AroundTask(task, [])
    assert repr(around) == repr(task)
    assert (around.key, around.func, around.is_coro) == ("key-1", operator.neg, False)
    assert around() == -3
    assert type(pickle.loads(pickle.dumps(around))) is dask._task_spec.Task


def test_a_task_in_an_executor_outside_the_process_is_refused(client: distributed.Client) -> None:
    (worker,) = client.cluster.workers.values()
    plugin = _Surrounds()
    client.sync(worker.plugin_add, plugin=plugin)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        worker.executors["pool"] = pool
        try:
            with dask.annotate(executor="pool"):
                assert client.submit(operator.neg, 3, key="outside").result() == -3
        finally:
            del worker.executors["pool"]
            client.sync(worker.plugin_remove, name=plugin.name)
    assert plugin.refused == ["they run in an executor of the type ProcessPoolExecutor, outside the worker's process"]
    assert plugin.noted == []


def test_dask_gives_up_a_task_at_the_death_that_comes_after_those_it_allows(client: distributed.Client) -> None:
    future = client.submit(operator.add, 1, 2)
    future.result()

    def count(dask_scheduler: Any) -> tuple[int, int]:
        count_deaths(dask_scheduler, future.key, dask_scheduler.allowed_failures)
        count_deaths(dask_scheduler, "no such task", 1)
        return dask_scheduler.tasks[future.key].suspicious, dask_scheduler.allowed_failures

    counted, allowed = client.run_on_scheduler(count)
    assert counted == allowed > 0


def test_the_limit_of_a_worker_can_be_raised(client: distributed.Client) -> None:
    def raised(dask_worker: Any) -> tuple[int | None, int | None]:
        usual = worker_memory_limit(dask_worker)
        set_worker_memory_limit(dask_worker, 2**31)
        larger = worker_memory_limit(dask_worker)
        set_worker_memory_limit(dask_worker, usual)
        return usual, larger

    assert set(client.run(raised).values()) == {(2**30, 2**31)}


def test_a_worker_knows_which_tasks_are_wanted(client: distributed.Client) -> None:
    future = client.submit(operator.add, 1, 2)
    future.result()

    def wanted(dask_worker: Any) -> tuple[bool, bool]:
        return is_wanted(dask_worker, future.key), is_wanted(dask_worker, "no such task")

    assert set(client.run(wanted).values()) == {(True, False)}
