"""`runmem.measure` on real clusters: a record of every Dask task, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest

import runmem
from runmem.cli.measure import ReportedMeasurement
from runmem.errors import ClusterError, SettingError
from runmem.events import TaskRecord
from runmem.measurement import measured_cluster
from runmem.measurement.measurement import Measurement, measurement_settings
from runmem.store.run import read_run
from runmem.units import MIB
from runmem.worker.dask_tasks import DaskTasks

LOCAL = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}

INPROC = {"dashboard_address": "127.0.0.1:0", "threads_per_worker": 2}


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    """A cluster of the user, with nannies and one thread for each worker."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **LOCAL) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., ReportedMeasurement]:
    """Return `runmem.measure` with its run directory in the test's folder."""

    def measure(client: Any, **options: Any) -> ReportedMeasurement:
        return runmem.measure(client, run_folder=tmp_path, summary=False, **options)

    return measure


def records(measured: Measurement) -> list[TaskRecord]:
    return read_run(measured.directory.root).records


def spike(size_mib: int) -> int:
    block = np.ones(size_mib * MIB // 8)
    time.sleep(0.005)
    return int(block.nbytes)


def test_every_task_has_a_record_with_what_dask_knows_of_it(client, measure) -> None:
    with measure(client) as measured:
        numbers = da.from_array(np.arange(4e6), chunks=1_000_000)
        with dask.annotate(purpose="sum", level=2, where=("a", 1)):
            total = (numbers + 1).sum()
        assert client.compute(total, optimize_graph=False).result() == 8000002000000 - 0
        futures = client.map(spike, [80, 81])
        assert client.gather(futures) == [80 * MIB, 81 * MIB]
    found = records(measured)
    by_key = {record.key: record for record in found}
    assert {future.key for future in futures} <= by_key.keys()
    adds = [record for record in found if record.name == "add"]
    assert len(adds) == 4
    for record in adds:
        assert record.key.startswith(f"('{record.layer}', ")
        assert record.annotations["purpose"] == "sum"
        assert record.annotations["level"] == 2
        assert record.annotations["where"] == "('a', 1)"
        assert record.output_bytes == 8_000_000
        assert record.input_bytes is not None
        assert record.worker in client.scheduler_info()["workers"]
        assert (record.module, record.status, record.method, record.shared) == ("dask", "finished", "hwm", False)
    of_spikes = [by_key[future.key] for future in futures]
    for record, size in zip(of_spikes, (80, 81), strict=True):
        assert record.increment_bytes == pytest.approx(size * MIB, abs=10 * MIB)  # chunks may be released meanwhile
        assert record.annotations is None
    assert len({record.task_id for record in found}) == len(found)


def test_a_spike_of_five_milliseconds_is_found_each_time(client, measure) -> None:
    sizes = range(100, 130)
    with measure(client) as measured:
        futures = client.map(spike, sizes, pure=False)
        assert client.gather(futures) == [size * MIB for size in sizes]
    by_key = {record.key: record for record in records(measured)}
    found = [by_key[future.key].peak_bytes - by_key[future.key].base_bytes for future in futures]
    assert found == [pytest.approx(size * MIB, abs=MIB) for size in sizes]


def test_the_cluster_is_left_as_it_was(client, measure) -> None:
    def state(dask_worker: Any) -> tuple[object, ...]:
        from distributed.comm import tcp

        tasks = [type(task.run_spec).__module__ for task in dask_worker.state.tasks.values()]
        executors = {name: type(executor).__name__ for name, executor in dask_worker.executors.items()}
        return (
            os.getpid(),
            list(dask_worker.plugins),
            executors,
            [each for each in tasks if "runmem" in each],
            (tcp.read_bytes_rw.__module__),
        )

    def scheduler_state(dask_scheduler: Any) -> list[list[str]]:
        return [list(each) for each in (dask_scheduler.plugins, dask_scheduler.worker_plugins,
                                        dask_scheduler.nanny_plugins)]  # fmt: skip

    before = client.run(state), client.run_on_scheduler(scheduler_state), client.run(_nanny_state, nanny=True)
    kept = client.submit(spike, 1, pure=False)
    with measure(client):
        during = client.run(state)
        client.submit(spike, 2, pure=False).result()
        slow = client.submit(time.sleep, 1.5, pure=False)
        time.sleep(0.3)
    after = client.run(state), client.run_on_scheduler(scheduler_state), client.run(_nanny_state, nanny=True)
    assert during != before[0]
    assert after == before
    assert slow.result() is None
    assert kept.result() == MIB


def _nanny_state(dask_worker: Any) -> list[str]:
    return list(dask_worker.plugins)


def test_a_task_that_runs_on_is_recorded_as_cancelled(client, measure, eventually, tmp_path) -> None:
    def waits(path: Path) -> None:
        path.with_name("begun").touch()
        while not path.exists():
            time.sleep(0.01)

    with measure(client) as measured:
        slow = client.submit(waits, tmp_path / "go", key="slow-task", pure=False)
        eventually((tmp_path / "begun").exists)
    (tmp_path / "go").touch()
    (record,) = [record for record in records(measured) if record.key == "slow-task"]
    assert (record.status, record.reason) == ("cancelled", "the measurement ended before the task did")
    slow.result()


def test_two_measurements_follow_each_other_and_may_overlap(client, measure) -> None:
    first, second = measure(client, app="first"), measure(client, app="second")
    first.start()
    client.submit(spike, 3, key="spike-a").result()
    second.start()
    client.submit(spike, 4, key="spike-b").result()
    first.stop()
    client.submit(spike, 5, key="spike-c").result()
    second.stop()
    second.stop()
    assert sorted(record.key for record in records(first)) == ["spike-a", "spike-b"]
    assert sorted(record.key for record in records(second)) == ["spike-b", "spike-c"]
    first.start()
    client.submit(spike, 6, key="spike-d").result()
    first.stop()
    assert [record.key for record in records(first)] == ["spike-d"]
    assert first.directory.root.name == "first_02"


def test_results_of_other_tasks_are_known_also_from_before_and_in_each_measurement(client, measure) -> None:
    worker = list(client.scheduler_info()["workers"])[0]

    def keeps(size_mib: int) -> bytes:
        return bytes(size_mib * MIB)

    kept = client.submit(keeps, 20, workers=[worker], key="kept")
    kept.result()
    for _ in range(2):
        with measure(client, app="outer") as measured, measure(client, app="inner"):
            mine = client.submit(keeps, 30, workers=[worker], key="mine")
            taken = client.submit(len, mine, workers=[worker], key="taken")
            assert taken.result() == 30 * MIB
            del mine, taken
        held = {record.key: record.held_bytes for record in records(measured)}
        assert held["taken"] == pytest.approx(20 * MIB, abs=MIB)  # without its own input
        assert held["mine"] == pytest.approx(20 * MIB, abs=MIB)


def test_data_that_arrives_during_a_task_is_not_its_increment(client, measure, eventually) -> None:
    first, second = client.scheduler_info()["workers"]
    with measure(client) as measured:
        data = client.submit(np.ones, 20 * MIB // 8, workers=[first], pure=False)
        eventually(data.done)
        nap = client.submit(time.sleep, 0.5, workers=[second], key="nap")
        taken = client.submit(len, data, workers=[second], key="taken")  # its input is fetched during the nap
        assert client.gather([nap, taken]) == [None, 20 * MIB // 8]
    (record,) = (record for record in records(measured) if record.key == "nap")
    assert record.increment_unclear is not None or record.increment_bytes < 2 * MIB


def test_a_failed_task_has_a_record_and_its_own_exception(client, measure) -> None:
    with measure(client) as measured, pytest.raises(ZeroDivisionError):
        client.submit(lambda: 1 / 0, key="fails").result()
    (record,) = records(measured)
    assert (record.status, record.exception, record.output_bytes) == ("failed", "ZeroDivisionError", None)
    assert measured.summary().tasks[0].failed == 1


def test_workers_that_come_later_are_measured(client, measure, tmp_path) -> None:
    with measure(client) as measured:
        client.cluster.scale(3)
        client.wait_for_workers(3)
        workers = list(client.scheduler_info()["workers"])
        futures = [client.submit(spike, n, workers=[worker], pure=False) for n, worker in enumerate(workers, 1)]
        client.gather(futures)
    assert {record.worker for record in records(measured)} == set(workers)


def test_coroutines_and_tasks_that_leave_the_pool(client, measure) -> None:
    async def waits(seconds: float) -> float:
        import asyncio

        await asyncio.sleep(seconds)
        return seconds

    def secedes() -> int:
        distributed.secede()
        with distributed.worker_client() as inner:
            return inner.submit(spike, 7, key="inner").result()

    workers = list(client.scheduler_info()["workers"])[:1]
    with measure(client) as measured:
        together = [client.submit(waits, 0.3 + n / 10, key=f"waits-{n}", workers=workers) for n in range(2)]
        assert client.gather(together) == [0.3, 0.4]
        assert client.submit(secedes, key="secedes").result() == 7 * MIB
    by_key = {record.key: record for record in records(measured)}
    assert by_key.keys() == {"waits-0", "waits-1", "secedes", "inner"}
    assert all(record.status == "finished" for record in by_key.values())


class Counter:
    """An actor."""

    def wait(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds


def test_a_task_beside_a_method_of_an_actor_is_an_upper_bound(client, measure) -> None:
    workers = list(client.scheduler_info()["workers"])[:1]
    with client.as_current(), measure(client) as measured:  # an actor takes the current client
        actor = client.submit(Counter, actor=True, workers=workers, key="actor").result()
        waited = actor.wait(1.5)
        client.submit(time.sleep, 0.3, workers=workers, key="beside").result()
        assert waited.result() == 1.5
        client.submit(time.sleep, 0.1, workers=workers, key="after").result()
    assert {r.key: r.shared for r in records(measured)} == {"actor": False, "beside": True, "after": False}
    (lost,) = measured.summary().lost
    assert lost.startswith("methods of actors: they have no record, since Dask")


def test_a_killed_task_is_named_with_the_cause(client, measure) -> None:
    def dies() -> None:
        block = bytearray(150 * MIB)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
        del block

    with measure(client) as measured, pytest.raises(distributed.scheduler.KilledWorker):
        client.submit(dies, key="dies").result()
    killed = [record for record in records(measured) if record.status == "killed"]
    assert {record.key for record in killed} == {"dies"}
    assert all("killed by signal 9" in record.reason for record in killed)
    assert all(record.last_bytes > 150 * MIB for record in killed)
    assert any("key dies, on" in text for text, _ in measured.summary().lines())


def test_shuffle_tasks_come_with_what_dask_calls_them(client, measure) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import dask.dataframe as dd

    frame = dd.from_pandas(pd.DataFrame({"a": np.arange(1000) % 7, "b": np.arange(1000.0)}), npartitions=4)
    with measure(client) as measured, dask.config.set({"dataframe.shuffle.method": "p2p"}):
        assert len(client.compute(frame.shuffle("a")).result()) == 1000
    names = {record.name for record in records(measured)}
    assert any("shuffle-transfer" in name for name in names), names
    assert any("shuffle-barrier" in name for name in names), names


@pytest.mark.parametrize("options", [{"threads_per_worker": 4, **LOCAL}, {"processes": False, **INPROC}])
def test_what_runs_together_is_an_upper_bound_and_the_summary_says_what_to_do(measure, options) -> None:
    with (
        distributed.LocalCluster(n_workers=1, **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        measure(client) as measured,
    ):
        client.gather(client.map(time.sleep, [0.3, 0.31, 0.32, 0.33]))
    found = records(measured)
    assert len(found) == 4
    assert all(record.shared for record in found)
    text = "\n".join(text for text, _ in measured.summary().lines())
    assert "For 4 of 4 the worker ran more than the task" in text
    assert "threads_per_worker=1" in text


def test_workers_without_nannies_and_the_ends_of_clusters(measure) -> None:
    """The cluster is closed before the measurement ends: what was recorded by then is there."""
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, worker_class=distributed.Worker,
                                       processes=False, protocol="tcp", **LOCAL)  # fmt: skip
    client = distributed.Client(cluster, set_as_default=False)
    measured = measure(client).start()
    client.submit(spike, 3, key="spike-a").result()
    client.close()
    cluster.close()
    measured.stop()
    assert [record.key for record in records(measured)] == ["spike-a"]
    assert read_run(measured.directory.root).provenance["lost"] == []


def test_a_client_that_is_closed_in_the_block_leaves_the_cluster_as_it_was(client, measure) -> None:
    with distributed.Client(client.cluster, set_as_default=False) as other:
        measured = measure(other).start()
        other.submit(spike, 3, key="spike-closed").result()
    measured.stop()
    assert [record.key for record in records(measured)] == ["spike-closed"]
    assert read_run(measured.directory.root).provenance["lost"] == []
    assert not any("runmem" in name for names in client.run(_nanny_state).values() for name in names)


def test_an_asynchronous_client_is_measured_from_another_thread(client, measure) -> None:
    async def main() -> Any:
        async with distributed.Client(client.scheduler.address, asynchronous=True, set_as_default=False) as mine:
            import asyncio

            measured = measure(mine)
            await asyncio.to_thread(measured.start)
            await mine.submit(spike, 3, key="spike-async")
            with pytest.raises(SettingError, match="asyncio.to_thread"):
                measured.stop()
            await asyncio.to_thread(measured.stop)
            return measured

    import asyncio

    assert [record.key for record in records(asyncio.run(main()))] == ["spike-async"]


def test_in_its_own_event_loop_a_measurement_is_refused_instead_of_waiting_for_ever(measure, tmp_path) -> None:
    async def main() -> None:
        async with (
            distributed.LocalCluster(n_workers=1, asynchronous=True, **LOCAL) as cluster,
            distributed.Client(cluster, asynchronous=True, set_as_default=False) as mine,
        ):
            with pytest.raises(SettingError, match=r"event loop .* `await asyncio.to_thread\(measured.start\)`"):
                measure(mine).start()

    import asyncio

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_the_notebook_shows_table_and_figure(client, measure) -> None:
    measured = measure(client)
    assert "not started" in measured._repr_html_()
    with measured:
        client.submit(spike, 50, key="spike-<b>").result()
        time.sleep(0.5)
        assert "spike" in measured._repr_html_()
    html = measured._repr_html_()
    assert re.search(r"spike +1 +0 +\d+\.\d MiB", html)
    assert '<img alt="memory over time"' in html
    assert "data:image/png;base64,iVBOR" in html


def test_bad_input_is_refused_before_anything_is_made(client, measure, tmp_path) -> None:
    closed = distributed.Client(client.cluster, set_as_default=False)
    closed.close()
    with pytest.raises(SettingError, match=r"the client is closed: .* Make another"):
        measure(closed).start()
    with pytest.raises(SettingError, match=r"type LocalCluster: for a cluster, pass Client\(cluster\)"):
        measure(client.cluster)
    with pytest.raises(SettingError, match="there is no client of Dask"):
        measure(None)
    with pytest.raises(SettingError, match="measure\\(\\) has no setting 'workers'"):
        measure(client, workers=3)
    with pytest.raises(SettingError, match="memory_interval"):
        measure(client, memory_interval=0)
    with measure(client) as measured, pytest.raises(SettingError, match="has started already"):
        measured.start()
    assert [path.name for path in tmp_path.iterdir()] == [measured.directory.root.name]


@pytest.mark.parametrize("operation", ["register_nanny_plugin", "register_worker_plugin"])
def test_a_scheduler_that_forbids_plugins_is_named_with_the_other_way(client, tmp_path, operation) -> None:
    async def refuse(**request: object) -> None:
        raise PermissionError("no plugins here")

    handlers = client.cluster.scheduler.handlers
    allowed = handlers.pop(operation)
    try:
        for reason in ("its scheduler has switched them off", "no plugins here"):
            with pytest.raises(ClusterError, match=f"takes no plugins .{reason}.* --preload runmem.preload"):
                runmem.measure(client, run_folder=tmp_path / "runs").start()
            handlers[operation] = refuse
    finally:
        handlers[operation] = allowed
    assert list(tmp_path.iterdir()) == []
    assert client.submit(sum, [1, 2]).result() == 3
    assert set(map(tuple, client.run(lambda dask_worker: list(dask_worker.plugins)).values())) == {("shuffle",)}
    assert not any("runmem" in name for names in client.run(_nanny_state).values() for name in names)


class _OtherVersion(Measurement):
    version = "99.1"


def test_workers_with_another_version_are_named_and_if_all_have_refused(client, tmp_path) -> None:
    measured = _OtherVersion(client, "app", measurement_settings({"run_folder": tmp_path / "runs"}))
    with pytest.raises(ClusterError, match=r"is installed there, and the program has 99.1. Install it there with `/"):
        measured.start()
    assert list(tmp_path.iterdir()) == []
    assert not any("runmem" in name for names in client.run(_nanny_state).values() for name in names)


def test_installing_is_advised_only_for_workers_with_another_version(client, measure, monkeypatch) -> None:
    class Fails(DaskTasks):
        def setup(self, worker: Any) -> None:
            raise OSError("no room")

    monkeypatch.setattr(measured_cluster, "DaskTasks", Fails)
    with pytest.raises(ClusterError, match="is not measured: OSError: no room") as refused:
        measure(client).start()
    assert "pip install" not in str(refused.value)
