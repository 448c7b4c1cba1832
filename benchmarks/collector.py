"""How many nodes one master collects from, on how much of a core and with how much memory.

python benchmarks/collector.py [--nodes 1000] [--seconds 60] [--calls 1000] [--real 20] [--messages 50] [--tls]

Nodes are simulated: each has the spool of a sampler with 64 workers at 10 Hz (its lines are made by the sampler's own
code) and of workers that run calls (lines of the workers' own code). They are read by the real collector, replicas,
task lines and recorder; only the way over the network is missing. What the simulation itself uses is subtracted.

1. Dask: `--messages` workers in another process, asked as in a run; the processor time of the master, which has the
   scheduler, for each answer of a node.
2. Simulated time: it advances by the duration of each round and by the pause that the collector would make, which
   adapts. A round takes the processor time of the collecting thread, plus the time above for each node. The share of a
   core is that divided by the simulated time. The number of nodes is doubled until the share is more than 80 %.
3. Real time (`--real` seconds): the collector's own thread, without Dask, against nodes that follow the clock. Its lag
   is how old the last reading is that the master has. The simulation runs in the same thread and takes its part of it.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace

import distributed

from runmem.collection.collector import Collector
from runmem.collection.observer import Observers
from runmem.collection.pace import MOST_PAUSE_S, WantedInterval
from runmem.collection.recorder import Recorder
from runmem.collection.replicas import Replicas
from runmem.collection.spool_reader import SpoolNews
from runmem.dask_private import start_on_worker
from runmem.node.trace_lines import TraceLines
from runmem.store.layout import RunDirectory, worker_series
from runmem.store.line_writer import LineWriter
from runmem.units import MIB, format_bytes

INTERVAL_S = 0.1
FOLDER = None  # of the run directories: that for temporary files
FIRST_S = 1_795_000_000.0
TASK = SimpleNamespace(module="program", name="reduce_image", file="program.py", data_id=None)
MEASURED = {
    "method": "hwm", "base_bytes": 67211264, "peak_bytes": 68329472, "end_bytes": 68329472,
    "increment_bytes": 1118208, "held_bytes": 0, "lifetime_peak_bytes": 68329472,
}  # fmt: skip


class Node:
    """The spool of a simulated node: what was written and not yet read."""

    def __init__(self, number: int, workers: int, calls_a_s: float) -> None:
        self.name = f"node{number:05}"
        self._lines, self._pids, self._ticks = TraceLines(), range(1000, 1000 + workers), 0
        for pid in self._pids:
            self._lines.add(pid, worker_series(pid))
            self._lines.change(pid, (100 * MIB + pid * 4096, 30 * MIB))
        self._writers = [LineWriter(self.name, 4 << 30, pid) for pid in self._pids]
        self._calls_a_s, self._calls, self._number = calls_a_s, 0, number << 16
        self._next_s = 0.0

    def read(self, seconds: float, interval_s: float, offsets: dict[str, int]) -> SpoolNews:
        """Return all lines until so many seconds after the start, with readings at the given interval."""
        files: dict[str, list[bytes]] = {}
        ticks = []
        while self._next_s < seconds:
            self._ticks += 1
            self._lines.change(self._pids[self._ticks % len(self._pids)], (100 * MIB + self._ticks * 4096, 30 * MIB))
            ticks.append(self._lines.at(FIRST_S + self._next_s))
            self._next_s += interval_s
        if ticks:
            files[f"{self.name}.dat"] = ticks
        while self._calls < int(seconds * self._calls_a_s):
            writer = self._calls % len(self._writers)
            task_id, now_s = self._number + self._calls + 1, FIRST_S + seconds
            lines = files.setdefault(f"tasks-{self._pids[writer]}.jsonl", [])
            lines.append(self._writers[writer].start(TASK, task_id, 7871, now_s - 0.01, 67211264))
            times = now_s - 0.01, now_s, 0.009
            lines.append(self._writers[writer].end(TASK, task_id, 7871, times, "finished", None, MEASURED))
            self._calls += 1
        read = {file: (offsets.get(file, 0), b"".join(parts)) for file, parts in files.items()}
        return SpoolNews(self.name, read, [], False, 256 << 30, 250 << 30, "cgroup v2")


class Simulation:
    """Nodes, and the collector that reads them into a run directory below `folder`.

    Attributes
    ----------
    feeding_s : float
        Processor time of the simulation itself.
    read_until_s : float
        Time of the oldest of the nodes' last readings that the collector has.
    now : callable
        Seconds since the start of the run.
    """

    def __init__(self, folder: Path, nodes: int, calls_a_s: float, workers: int = 64) -> None:
        self._nodes = [Node(number, workers, calls_a_s / nodes) for number in range(nodes)]
        self.folder = RunDirectory.create("simulated", folder)
        self.recorder = Recorder(self.folder)
        replicas = Replicas(self.folder, None)
        observers = Observers([self.recorder])
        self.collector = Collector("benchmark", self.folder, replicas, observers, INTERVAL_S, lambda: None)
        self.collector.add_remote(self._read, set())
        self.feeding_s, self.bytes = 0.0, 0
        self.read_until_s = 0.0
        self.now: Callable[[], float] = lambda: 0.0

    def _read(
        self,
        offsets: dict[str, dict[str, int]],
        to_free: Callable[[str], dict[str, int]],
        wanted: WantedInterval | None,
    ) -> Iterator[tuple[str, SpoolNews | str]]:
        interval_s = wanted.seconds if wanted is not None else INTERVAL_S
        read_until_s = self.now()
        for node in self._nodes:
            to_free(node.name)
            began = time.thread_time()
            news = node.read(self.now(), interval_s, offsets.get(node.name, {}))
            self.bytes += sum(len(data) for _, data in news.files.values())
            self.feeding_s += time.thread_time() - began
            yield node.name, news
        self.read_until_s = read_until_s


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def simulate(nodes: int, seconds: float, calls_a_s: float, answer_s: float) -> tuple[float, float]:
    """Collect for so many simulated seconds; print a row.

    Return the share of a core that all of it needs, and that for each node without Dask's answers.

    The share is that of the second half, after the intervals have adapted. Memory is that of this process, with the
    simulation; what a node writes is made in each round and dropped.
    """
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        simulation = Simulation(Path(folder), nodes, calls_a_s)
        simulation.now = lambda: clock_s
        pace, clock_s, used_s = simulation.collector.pace, 0.0, 0.0
        half, rounds = (0.0, 0.0), 0
        sizes = [resident_bytes()]
        while clock_s < seconds:
            clock_s += pace.pause_s
            feeding_s, began_s = simulation.feeding_s, time.thread_time()
            simulation.collector.collect()
            round_s = time.thread_time() - began_s - (simulation.feeding_s - feeding_s) + nodes * answer_s
            clock_s += round_s
            used_s += round_s
            rounds += 1
            pace.round_took(round_s, nodes)
            if not half[0] and clock_s >= seconds / 2:
                half = clock_s, used_s
                sizes.append(resident_bytes())
        sizes.append(resident_bytes())
        share = (used_s - half[1]) / (clock_s - half[0])
        print(
            f"{nodes:6,} {clock_s:9.1f} s {simulation.bytes / clock_s / MIB:7.1f} {100 * share:10.1f} {round_s:7.2f} s"
            f" {pace.pause_s:7.2f} s {pace.wanted.seconds if pace.wanted else INTERVAL_S:8.1f} s"
            f" {' '.join(f'{format_bytes(size):>10}' for size in sizes)} {len(os.listdir('/proc/self/fd')):5}"
            f" {format_bytes(disk_bytes(Path(folder))):>10} {simulation.recorder.records:9,}",
            flush=True,
        )
    return share, (used_s / nodes - rounds * answer_s) / clock_s


def follow_the_clock(nodes: int, seconds: float, calls_a_s: float) -> float:
    """Let the collector's own thread collect for so many seconds; print a row and return the longest lag in seconds."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        simulation = Simulation(Path(folder), nodes, calls_a_s)
        began_s = time.monotonic()
        simulation.now = lambda: time.monotonic() - began_s
        simulation.collector.start()
        lags = []
        while (elapsed_s := simulation.now()) < seconds:
            time.sleep(0.2)
            lags.append(elapsed_s - simulation.read_until_s)
        half = len(lags) // 2
        print(
            f"{nodes:6,} {elapsed_s:9.1f} s {simulation.bytes / elapsed_s / MIB:7.1f}"
            f" {100 * simulation.feeding_s / elapsed_s:10.1f} {simulation.collector.pace.pause_s:7.2f} s"
            f" {max(lags[:half]):10.1f} s {max(lags[half:]):8.1f} s {format_bytes(resident_bytes()):>10}",
            flush=True,
        )
        simulation.collector.finish(all_ended=True)
    return max(lags[half:])


def answer(nodes_lines: bytes, *_: object) -> SpoolNews:
    """Return what a node answers in a round; runs in the process of the workers."""
    return SpoolNews("node", {"node.dat": (0, nodes_lines)}, [], False, 256 << 30, 250 << 30, "cgroup v2")


WORKERS = """
import asyncio, pickle, sys
import distributed

async def main(count, address, security):
    workers = [
        distributed.Worker(
            address, nthreads=1, memory_limit=0, dashboard=False, name=str(number),
            security=distributed.Security(**security) if security else None,
        )
        for number in range(count)
    ]
    await asyncio.gather(*workers)
    await asyncio.Event().wait()

asyncio.run(main(int(sys.argv[1]), sys.argv[2], pickle.loads(bytes.fromhex(sys.argv[3]))))
"""
TLS = ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key", "tls_worker_cert", "tls_worker_key")


def ask_dask(workers: int, tls: bool, rounds: int = 20) -> tuple[float, float]:
    """Return the processor seconds of the master for an answer of a node, and for a worker in a list of all."""
    security = distributed.Security.temporary() if tls else None
    keys = {name: getattr(security, name) for name in TLS} | {"require_encryption": True} if security else None
    ticks = Node(1, 64, 0.0).read(0.4, INTERVAL_S, {}).files["node00001.dat"][1]
    with (
        distributed.LocalCluster(
            n_workers=0, dashboard_address="127.0.0.1:0", protocol="tls" if tls else "tcp", security=security
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        command = [sys.executable, "-c", WORKERS, str(workers), cluster.scheduler_address, pickle.dumps(keys).hex()]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(workers, timeout=60)
            offsets = {f"tasks-{pid}.jsonl": 100_000 for pid in range(64)} | {"node.dat": 10_000_000}
            addresses = list(client.scheduler_info(n_workers=-1)["workers"])

            def ask() -> None:
                wait([start_on_worker(client, answer, ticks, offsets, worker=each, nanny=False) for each in addresses])

            ask()
            time.sleep(1)
            began_s = time.process_time()
            for _ in range(rounds):
                ask()
            asked_s = time.process_time() - began_s
            began_s = time.process_time()
            for _ in range(rounds):
                client.scheduler_info(n_workers=-1)
            return asked_s / rounds / workers, (time.process_time() - began_s) / rounds / workers
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated time with so many nodes")
    parser.add_argument("--calls", type=float, default=1000.0, help="calls of tasks a second, on all nodes together")
    parser.add_argument("--most", type=int, default=16_000, help="nodes up to which the limit is looked for")
    parser.add_argument("--real", type=float, default=20.0, help="seconds of real time; 0: none")
    parser.add_argument("--messages", type=int, default=50, help="workers of Dask; 0: none")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--answer_us", type=float, help="what an answer costs, from an earlier measurement")
    options = parser.parse_args()

    answer_s = (options.answer_us or 0.0) / 1e6
    if options.messages and not answer_s:
        answer_s, look_s = ask_dask(options.messages, options.tls)
        print(
            f"Dask {distributed.__version__}{' with TLS' if options.tls else ''}, {options.messages} workers: "
            f"{answer_s * 1e6:.0f} us of the master for an answer, {look_s * 1e6:.0f} us for each worker in a list"
        )
    print(f"\n64 workers a node, 10 Hz, {options.calls:,.0f} calls a second in all; simulated time")
    print(
        " nodes simulated    MiB/s  % of core     round     pause   interval     memory   half way     at end  open"
        "       disk   records"
    )
    nodes, seconds = options.nodes, options.seconds
    while True:
        share, each_s = simulate(nodes, seconds, options.calls, answer_s)
        if share > 0.8 or 2 * nodes > options.most:
            break
        nodes, seconds = 2 * nodes, min(options.seconds, 60.0)
    lengthened = MOST_PAUSE_S / (answer_s + 2 * MOST_PAUSE_S * each_s)
    print(f"last row: {each_s * 1e6:.0f} us of a core for each node and second, without Dask. Extrapolated:")
    print(
        f"- a round takes {MOST_PAUSE_S:g} s, and samplers are asked for longer intervals, at {lengthened:,.0f} nodes"
    )
    print(f"- without that, the backlog would grow from {1 / each_s:,.0f} nodes on")
    if options.real:
        print("\nreal time")
        print(" nodes      time    MiB/s  % feeding     pause  lag: before      after     memory")
        nodes = options.nodes
        while follow_the_clock(nodes, options.real, options.calls) < 3 * MOST_PAUSE_S and 2 * nodes <= options.most:
            nodes *= 2


if __name__ == "__main__":
    main()
