"""Measures what `runmem.measure` costs a Dask task, and how far its peaks are from known allocations.

Beside it, on the same cluster and program: dask-memusage, which reads the workers every 10 ms (`pip install
dask-memusage`; left out where it is not installed), and Dask's own `distributed.diagnostics.MemorySampler`::

    python benchmarks/measure.py --runs 5 --tasks 2000 --spikes 30

Cost: tasks that do nothing, on one worker with one thread; the methods take turns, and the median over the runs of the
time for each task is compared with that of plain Dask in the same run. On a busy machine that says little: then the
processor time of the measurement alone, in the worker, is what counts. Error: tasks that take 500 MiB for 5 ms, whose
size each method should report; MemorySampler reports a time series of the cluster, whose highest rise counts.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import distributed
import numpy as np

import runmem
from runmem.store.run import read_run

MIB = 1024**2
SPIKE_BYTES, SPIKE_S = 500 * MIB, 0.005


def nothing(number: int) -> int:
    return number


def spike(number: int) -> int:
    block = np.ones(SPIKE_BYTES // 8)
    time.sleep(SPIKE_S)
    del block
    return number


class Plain:
    """Dask without a measurement."""

    name = "plain Dask"

    def __init__(self, client: distributed.Client) -> None:
        self.client = client

    @contextmanager
    def around(self) -> Iterator[None]:
        yield

    def peaks(self) -> list[int]:
        """Return the increments found for the tasks `spike`, in bytes."""
        return []


class Runmem(Plain):
    name = "runmem.measure"

    @contextmanager
    def around(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            with runmem.measure(self.client, run_folder=folder, summary=False) as measured:
                yield
            records = read_run(measured.directory.root).records
            self._found = [r.increment_bytes or 0 for r in records if r.name == "spike"]

    def peaks(self) -> list[int]:
        return self._found


class Sampler(Plain):
    name = "MemorySampler (0.5 s)"

    @contextmanager
    def around(self) -> Iterator[None]:
        from distributed.diagnostics import MemorySampler

        sampler = MemorySampler()
        with sampler.sample("run", client=self.client):
            yield
        sizes = [size for _, size in sampler.samples["run"]]
        self._found = [max(sizes) - sizes[0]] if sizes else []

    def peaks(self) -> list[int]:
        return self._found


class MemUsage(Plain):
    """dask-memusage: a plugin of the scheduler, which has to be in the process of the workers' host."""

    name = "dask-memusage (10 ms)"

    @contextmanager
    def around(self) -> Iterator[None]:
        from dask_memusage import install

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "usage.csv"
            scheduler = self.client.cluster.scheduler
            before = set(scheduler.plugins)
            install(scheduler, str(path))
            yield
            time.sleep(0.5)
            for name in set(scheduler.plugins) - before:
                with suppress(Exception):
                    scheduler.remove_plugin(name)
            with path.open() as file:
                rows = [row for row in csv.DictReader(file) if "spike" in row["task_key"]]
            self._found = [int((float(r["max_memory_mb"]) - float(r["min_memory_mb"])) * MIB) for r in rows]

    def peaks(self) -> list[int]:
        return self._found


def timed(client: distributed.Client, tasks: int) -> float:
    """Return the seconds for each of so many tasks that do nothing, on the worker alone and all together."""
    began = time.perf_counter()
    client.gather(client.map(nothing, range(tasks), pure=False))
    return (time.perf_counter() - began) / tasks


def worker_cpu_s(client: distributed.Client) -> float:
    (used,) = client.run(time.process_time).values()
    return float(used)


def seconds_on_worker(key: str, rounds: int, dask_worker: Any) -> tuple[float, float]:
    """Return the processor seconds of the plain call of a task, and with the measurement around it; on a worker.

    All that the plugin does for a task is in it: in the event loop before and after, and in the call.
    """
    (plugin,) = [each for name, each in dask_worker.plugins.items() if name.startswith("runmem-tasks")]
    task = dask_worker.state.tasks[key]
    began = time.thread_time()
    for _ in range(rounds):
        task.run_spec({})
    plain = time.thread_time() - began
    began = time.thread_time()
    for _ in range(rounds):
        plugin.transition(key, "ready", "executing")
        task.run_spec({})
        plugin.transition(key, "executing", "memory")
    return plain / rounds, (time.thread_time() - began) / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--spikes", type=int, default=30)
    options = parser.parse_args()
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster) as client,
    ):
        methods: list[Plain] = [Plain(client), Runmem(client), Sampler(client)]
        with suppress(ImportError):
            import dask_memusage  # noqa: F401

            methods.append(MemUsage(client))
        timed(client, options.tasks)
        wall: dict[str, list[float]] = {method.name: [] for method in methods}
        cpu: dict[str, list[float]] = {method.name: [] for method in methods}
        for run in range(options.runs):
            for method in methods[run % len(methods) :] + methods[: run % len(methods)]:
                with method.around():
                    used = worker_cpu_s(client)
                    wall[method.name].append(timed(client, options.tasks))
                    cpu[method.name].append((worker_cpu_s(client) - used) / options.tasks)
        plain = methods[0].name
        print(f"{'method':24} {'us a task':>10} {'more':>7} {'worker CPU us':>14} {'more':>7}")
        for method in methods:
            more = statistics.median(a - b for a, b in zip(wall[method.name], wall[plain], strict=True))
            more_cpu = statistics.median(a - b for a, b in zip(cpu[method.name], cpu[plain], strict=True))
            print(
                f"{method.name:24} {statistics.median(wall[method.name]) * 1e6:10.0f} {more * 1e6:7.0f} "
                f"{statistics.median(cpu[method.name]) * 1e6:14.0f} {more_cpu * 1e6:7.0f}"
            )
        kept = client.submit(nothing, 1, key="kept")
        kept.result()
        with methods[1].around():
            each = [client.run(seconds_on_worker, "kept", 2000) for _ in range(options.runs)]
        costs = [measured - plain for answer in each for plain, measured in answer.values()]
        print(f"runmem on the worker alone: {statistics.median(costs) * 1e6:.0f} us of processor time a task")
        print(f"\n{options.spikes} tasks, each with 500 MiB for 5 ms: found to 1 %, and the errors in MiB")
        for method in methods[1:]:
            with method.around():
                client.gather(client.map(spike, range(options.spikes), pure=False))
                time.sleep(0.6)
            found = method.peaks()
            errors = [(size - SPIKE_BYTES) / MIB for size in found]
            good = sum(abs(error) <= 5 for error in errors)
            worst = f"{min(errors):.1f} to {max(errors):.1f}" if errors else "no value"
            what = "tasks" if len(found) > 1 else "value of the whole cluster"
            print(f"{method.name:24} {good:3} of {options.spikes}  {worst} ({len(found)} {what})")


if __name__ == "__main__":
    main()
