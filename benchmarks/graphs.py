"""The same task graphs by runmem, by Dask written by hand, and by Parsl and Ray where they are installed.

python benchmarks/graphs.py [ROUNDS] [--small]

Each framework runs the graphs on 2 worker processes of one thread, in a process of its own; processes take turns, and
the best of all rounds counts, because machines are shared and noisy. Dask runs each graph in two ways, a
`client.submit` for each call and one `client.compute` of delayed objects.

The ratio is how many times as quick as the quicker way of Dask a framework is. For runmem, at least 1.0 is wanted for
each graph.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, Protocol

import numpy as np

WORKERS = 2
TIMEOUT_S = 900
FULL = {
    "independent no-ops": 5000, "chain": 2000, "reduction": 4096, "updates of one object": 1000,
    "collections of 64": 200, "two returned values": 2000, "5 ms on 8 MB arrays": 1000, "round trip": 30,
}  # fmt: skip
SMALL = {name: max(count // 20, 4) for name, count in FULL.items()} | {"reduction": 256}


# ---------------------------------------------------------------------------------------------------------------------
# The functions that all frameworks call


def same(value: Any) -> Any:
    return value


def add(left: float, right: float) -> float:
    return left + right


def update(array: Any) -> Any:
    array = array.copy()
    array += 1
    return array


def total(values: list[float]) -> float:
    return sum(values)


def total_of(*values: float) -> float:
    return sum(values)


def first_two(value: int) -> tuple[int, int]:
    return value, value + 1


def make_array(value: float) -> Any:
    return np.full(1_000_000, value)


def compute(array: Any) -> float:
    """Work for about 5 ms on an array of 8 MB."""
    end = time.perf_counter() + 0.005
    result = 0.0
    while time.perf_counter() < end:
        result = float(array[:100_000].sum())
    return result


# ---------------------------------------------------------------------------------------------------------------------
# The graphs


class Framework(Protocol):
    """What a graph needs of a framework."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call."""

    def call_on_list(self, futures: list[Any]) -> Any:
        """Return the future of the sum of a list of futures."""

    def call_two(self, value: int) -> tuple[Any, Any]:
        """Return two futures of one call."""

    def update(self, array: Any) -> Any:
        """Return the array, or its future, after 1 was added to it by a call."""

    def wait(self, futures: list[Any]) -> list[Any]:
        """Return values."""


def no_ops(by: Framework, count: int) -> None:
    assert by.wait([by.call(same, number) for number in range(count)]) == list(range(count))


def chain(by: Framework, count: int) -> None:
    value = by.call(same, 1)
    for _ in range(count - 1):
        value = by.call(same, value)
    assert by.wait([value]) == [1]


def reduction(by: Framework, count: int) -> None:
    level = [by.call(same, 1) for _ in range(count)]
    while len(level) > 1:
        level = [by.call(add, level[i], level[i + 1]) for i in range(0, len(level), 2)]
    assert by.wait(level) == [count]


def updates(by: Framework, count: int) -> None:
    array: Any = np.zeros(1000)
    for _ in range(count):
        array = by.update(array)
    assert by.wait([array])[0][0] == count


def collections(by: Framework, count: int) -> None:
    parts = [by.call(same, number) for number in range(64)]
    assert by.wait([by.call_on_list(parts) for _ in range(count)]) == [2016] * count


def two_values(by: Framework, count: int) -> None:
    futures = [future for number in range(count) for future in by.call_two(number)]
    assert by.wait(futures)[-1] == count


def arrays(by: Framework, count: int) -> None:
    made = [by.call(make_array, number) for number in range(8)]
    found = by.wait([by.call(compute, made[number % 8]) for number in range(count)])
    assert found[1] == 100_000


def round_trip(by: Framework, count: int) -> None:
    for number in range(count):
        assert by.wait([by.call(same, number)]) == [number]


GRAPHS = dict(zip(FULL, (no_ops, chain, reduction, updates, collections, two_values, arrays, round_trip), strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# The frameworks


class ByRunmem:
    def __init__(self, folder: str) -> None:
        import runmem

        self._session = runmem.session(workers=WORKERS, run_folder=folder)
        self._session.__enter__()
        self._tasks: dict[Any, Any] = {
            function: runmem.task(returns=1)(function) for function in (same, add, total, make_array, compute)
        }
        self._two = runmem.task(returns=2)(first_two)

        @runmem.task(array=runmem.INOUT)
        def add_one(array: Any) -> None:
            array += 1

        self._add_one = add_one
        self._wait_on = runmem.wait_on

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._tasks[function](*arguments)

    def call_on_list(self, futures: list[Any]) -> Any:
        return self._tasks[total](futures)

    def call_two(self, value: int) -> tuple[Any, Any]:
        first, second = self._two(value)
        return first, second

    def update(self, array: Any) -> Any:
        self._add_one(array)
        return array

    def wait(self, futures: list[Any]) -> list[Any]:
        values: list[Any] = self._wait_on(futures)
        return values

    def close(self) -> None:
        self._session.__exit__(None, None, None)


class ByDask:
    def __init__(self, folder: str) -> None:
        import distributed

        self.client = distributed.Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.client.submit(function, *arguments, pure=False)

    def call_on_list(self, futures: list[Any]) -> Any:
        return self.call(total, futures)

    def call_two(self, value: int) -> tuple[Any, Any]:
        both = self.call(first_two, value)
        return self.call(_item, both, 0), self.call(_item, both, 1)

    def update(self, array: Any) -> Any:
        return self.call(update, array)

    def wait(self, futures: list[Any]) -> list[Any]:
        values: list[Any] = self.client.gather(futures)
        return values

    def close(self) -> None:
        self.client.close()


class ByDelayed(ByDask):
    """One graph of delayed objects."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        import dask

        return dask.delayed(function, pure=False, traverse=False)(*arguments)

    def call_two(self, value: int) -> tuple[Any, Any]:
        import dask

        first, second = dask.delayed(first_two, pure=False, nout=2)(value)
        return first, second

    def wait(self, futures: list[Any]) -> list[Any]:
        values: list[Any] = self.client.gather(self.client.compute(futures, optimize_graph=False))
        return values


class ByParsl:
    """The high-throughput executor: processes, as Dask's workers."""

    def __init__(self, folder: str) -> None:
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        provider = LocalProvider(init_blocks=1, max_blocks=1)
        executor = HighThroughputExecutor(
            address="127.0.0.1", loopback_address="127.0.0.1", max_workers_per_node=WORKERS, provider=provider
        )
        self._parsl = parsl
        parsl.load(Config(executors=[executor], run_dir=folder, initialize_logging=False))
        self._apps: dict[Any, Any] = {}

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if function not in self._apps:
            self._apps[function] = self._parsl.python_app(function)
        return self._apps[function](*arguments)

    def call_on_list(self, futures: list[Any]) -> Any:
        return self.call(total_of, *futures)

    def call_two(self, value: int) -> tuple[Any, Any]:
        both = self.call(first_two, value)
        return both[0], both[1]

    def update(self, array: Any) -> Any:
        return self.call(update, array)

    def wait(self, futures: list[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def close(self) -> None:
        self._parsl.dfk().cleanup()


class ByRay:
    def __init__(self, folder: str) -> None:
        import ray

        self._ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
        self._functions: dict[Any, Any] = {}

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if function not in self._functions:
            self._functions[function] = self._ray.remote(function)
        return self._functions[function].remote(*arguments)

    def call_on_list(self, futures: list[Any]) -> Any:
        return self.call(total_of, *futures)

    def call_two(self, value: int) -> tuple[Any, Any]:
        if first_two not in self._functions:
            self._functions[first_two] = self._ray.remote(num_returns=2)(first_two)
        first, second = self._functions[first_two].remote(value)
        return first, second

    def update(self, array: Any) -> Any:
        return self.call(update, array)

    def wait(self, futures: list[Any]) -> list[Any]:
        values: list[Any] = self._ray.get(futures)
        return values

    def close(self) -> None:
        self._ray.shutdown()


def _item(pair: tuple[int, int], index: int) -> int:
    return pair[index]


FRAMEWORKS = {"runmem": ByRunmem, "Dask": ByDask, "Dask, delayed": ByDelayed, "Parsl HTEX": ByParsl, "Ray": ByRay}
PACKAGES = {"Parsl HTEX": "parsl", "Ray": "ray"}


def measure(name: str, counts: dict[str, int]) -> None:
    """Print the best time of each graph by one framework, in seconds, as JSON."""
    times: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        by: Any = FRAMEWORKS[name](folder)
        no_ops(by, 50)
        for graph, run in GRAPHS.items():
            found = []
            for _ in range(1 if graph == "round trip" else 3):
                start = time.perf_counter()
                run(by, counts[graph])
                found.append(time.perf_counter() - start)
            times[graph] = min(found)
        by.close()
    print("TIMES", json.dumps(times), flush=True)
    os._exit(0)  # some frameworks leave threads that never end


def times_of(name: str, counts: dict[str, int]) -> dict[str, float]:
    """Measure one framework in a process that imports this file, as its workers must be able to."""
    folder = str(Path(__file__).parent)
    paths = {"PYTHONPATH": folder, "PATH": str(Path(sys.executable).parent)}  # PATH: Parsl's own commands
    env = os.environ | {key: os.pathsep.join([path, os.environ.get(key, "")]) for key, path in paths.items()}
    command = [sys.executable, "-c", f"import graphs; graphs.measure({name!r}, {counts!r})"]
    with NamedTemporaryFile() as output, NamedTemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=env, start_new_session=True)
        try:
            process.wait(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = [line for line in Path(output.name).read_text().splitlines() if line.startswith("TIMES ")]
        if not lines:
            print(f"{name}: failed\n{Path(errors.name).read_text()[-2000:]}")
            return {}
    times: dict[str, float] = json.loads(lines[0].removeprefix("TIMES "))
    return times


def main() -> None:
    counts = SMALL if "--small" in sys.argv else FULL
    rounds = next((int(word) for word in sys.argv[1:] if word.isdigit()), 3)
    names = [name for name in FRAMEWORKS if find_spec(PACKAGES.get(name, "runmem"))]
    best: dict[str, dict[str, float]] = {name: {} for name in names}
    for _ in range(rounds):
        for name in names:
            for graph, seconds in times_of(name, counts).items():
                best[name][graph] = min(seconds, best[name].get(graph, seconds))
    print(f"{WORKERS} workers, best of {rounds} rounds; x: times as quick as the quicker way of Dask")
    print(f"{'graph':24}{'calls':>7}" + "".join(f"{name:>24}" for name in names))
    for graph, count in counts.items():
        line = f"{graph:24}{count:7}"
        dask = min(best[name][graph] for name in ("Dask", "Dask, delayed") if graph in best[name])
        for name in names:
            if (seconds := best[name].get(graph)) is None:
                line += f"{'failed':>24}"
            else:
                line += f"{seconds / count * 1e3:10.3f} ms {dask / seconds:6.2f} x "
        print(line)


if __name__ == "__main__":
    main()
